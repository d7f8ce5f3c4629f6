"""Refunds that credit notes ask for."""
