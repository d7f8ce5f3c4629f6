"""Payments by hand, and what customers have with us."""
