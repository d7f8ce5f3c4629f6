"""A small bank with direct debit, as a payment provider of one's own: an example to start from."""
