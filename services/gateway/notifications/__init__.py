"""What providers send: kept before it is believed."""
