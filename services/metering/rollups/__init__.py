"""Rollups: usage by hour, which queries and levels are read from."""
