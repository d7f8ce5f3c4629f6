"""Commercial half: who buys what at which price, and the documents that ask for the money."""
