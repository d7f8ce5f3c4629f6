"""Corrections: events amended or deprecated, usage and charges with them."""
