"""Orders about a payment that the provider has: to capture what is reserved, or to call it off."""
