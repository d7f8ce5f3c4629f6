"""Usage as it runs: by billing period for prices, by hour for questions."""
