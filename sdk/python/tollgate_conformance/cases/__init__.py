"""The cases. Each is one claim about a provider, and skips where that is not declared."""
