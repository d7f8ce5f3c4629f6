"""Coupons: what is taken off invoices."""
