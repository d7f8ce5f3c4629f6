"""Verification: usage and charges recounted from the stored events."""
