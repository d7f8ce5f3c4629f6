"""Tenants: who runs billing."""
