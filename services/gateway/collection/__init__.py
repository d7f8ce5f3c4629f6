"""Carrying attempts out: the call to the provider, and asking again where it did not answer."""
