"""Tallies of events, and the counting of one running usage."""
