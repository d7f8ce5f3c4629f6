"""Budgets: nodes, caps, their journal, and what a batch reads and writes of them."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal
from wallet.migrations import statements

revision = "0008"
down_revision = "0007"

# What the ledger's definer functions may do, and what the service's own role may.
TABLES = {
    "budget_nodes": ("SELECT", "SELECT, INSERT, UPDATE, DELETE"),
    "budget_caps": ("SELECT, UPDATE", "SELECT, INSERT, UPDATE, DELETE"),
    "budget_entries": ("SELECT, INSERT", "SELECT"),
}
FUNCTIONS = ("open_batch", "open_budgets", "record_budgets")


def upgrade() -> None:
    for statement in statements("0008_budgets.sql"):
        op.execute(statement)
    for table, (of_ledger, of_service) in TABLES.items():
        protect(op, "wallet", table)
        reveal(op, "wallet", table, "wallet_ledger")
        grant(op, "wallet_ledger", f"wallet.{table}", of_ledger)
        grant(op, "wallet_app", f"wallet.{table}", of_service)
    for signature in FUNCTIONS:
        own(op, "wallet", signature, "wallet_ledger", "wallet_app")
