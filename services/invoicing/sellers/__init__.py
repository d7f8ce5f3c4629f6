"""Who sells."""
