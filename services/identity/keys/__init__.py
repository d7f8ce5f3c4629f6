"""API keys: credentials of a tenant's own programs."""
