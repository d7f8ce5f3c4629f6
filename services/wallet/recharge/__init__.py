"""Recharges: wallets that top themselves up, and alerts on what is available."""
