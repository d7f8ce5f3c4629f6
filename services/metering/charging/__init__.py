"""Charging: the wallet as metering uses it."""
