"""Holds: value is set aside, captured, released."""
