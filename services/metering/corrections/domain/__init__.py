"""The rules of corrections: what one may be, what it gives back, what it asks."""
