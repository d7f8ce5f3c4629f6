"""Limits: how much of a meter a customer's entitlements leave."""
