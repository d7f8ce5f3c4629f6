"""Budgets: who of a customer may spend how much, and in which stretch of time."""
