"""The rules of budgets: windows, caps, and what counts on them."""
