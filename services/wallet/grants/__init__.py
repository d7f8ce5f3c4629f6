"""Grants: value comes in."""
