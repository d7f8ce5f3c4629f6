"""The rules of invoices: what falls due, what it costs, and the document it makes."""
