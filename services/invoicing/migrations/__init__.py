"""The schema of invoicing, forward only."""
