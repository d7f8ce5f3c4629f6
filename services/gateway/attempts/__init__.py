"""Attempts: one try at one provider, its outcome, and asking again where there was none."""
