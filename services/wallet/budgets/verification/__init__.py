"""Budgets derived anew from what cannot be changed."""
