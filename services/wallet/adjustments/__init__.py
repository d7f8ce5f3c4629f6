"""Adjustments: what is done by hand, with who did it and why: reversals, corrections."""
