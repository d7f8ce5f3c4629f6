"""Schema of `reader`, which consumes the messages of `probe` in the tests of the chassis."""
