"""Metering: usage events, what they count and cost, and the gate before usage runs."""
