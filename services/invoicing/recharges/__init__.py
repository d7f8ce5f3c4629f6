"""Top-ups that wallets ask for by themselves: invoiced, paid, granted."""
