"""Expressions: what an author of meters may compute from the properties of an event."""
