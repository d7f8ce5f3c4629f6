"""What is stored beside balances and grants, held against the journal."""
