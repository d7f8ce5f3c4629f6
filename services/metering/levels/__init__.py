"""Levels: questions about usage that is not the sum of its hours."""
