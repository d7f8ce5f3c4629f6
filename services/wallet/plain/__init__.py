"""Plain items: what most of them are, decided by the database in one trip."""
