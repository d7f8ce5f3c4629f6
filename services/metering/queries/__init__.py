"""Questions about usage, and what an invoice is drawn from."""
