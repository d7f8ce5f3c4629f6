"""Explanations: why an event cost what it cost."""
