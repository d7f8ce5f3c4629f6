"""Wallets: purses of customers, and what is in them."""
