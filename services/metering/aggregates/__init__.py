"""Aggregates: how values of events become usage, in any order and with any taken back."""
