"""Exports: usage as a file."""
