"""Schema of `probe`, a service that exists in the tests of the chassis only."""
