"""Payments over any provider: never charged twice, never forgotten, never a card number."""
