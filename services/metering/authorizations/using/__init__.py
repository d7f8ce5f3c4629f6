"""Events that use authorizations."""
