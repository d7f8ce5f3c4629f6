"""Backfills: usage of the past, added or replaced in one bounded run."""
