"""Refunds: money sent back against payments that succeeded."""
