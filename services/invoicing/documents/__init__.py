"""Invoices as PDF."""
