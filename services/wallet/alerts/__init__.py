"""Alerts on how fast a wallet is used, how long it lasts, and which grants expire soon."""
