"""Meters: what is counted in which events."""
