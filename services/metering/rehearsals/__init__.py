"""Rehearsals: what a backfill would change, by doing it in a transaction that is taken back."""
