"""The ledger: one batch engine for grants, debits and holds."""
