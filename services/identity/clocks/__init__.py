"""Test clocks: time for those who test."""
