"""Debits: value is used."""
