"""Grants that are voided, moved and rolled over; reversals, corrections, exchange rates."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal
from wallet.migrations import statements

revision = "0010"
down_revision = "0009"

# What the ledger's definer functions may do, and what the service's own role may.
TABLES = {
    "grant_terms": ("SELECT, INSERT, UPDATE", "SELECT"),
    "reversals": ("SELECT, INSERT", "SELECT"),
    "adjustments": ("SELECT, INSERT", "SELECT"),
    "closed_periods": ("SELECT", "SELECT, INSERT, UPDATE"),
    "exchange_rates": ("SELECT", "SELECT, INSERT"),
    "journal_checkpoints": ("SELECT, INSERT, UPDATE", "SELECT"),
    "grant_checkpoints": ("SELECT, INSERT, UPDATE", "SELECT"),
}
FUNCTIONS = (
    "list_grant_details",
    "list_rollovers",
    "list_reversed",
    "list_rates",
    "list_closed_periods",
    "record_details",
)


def upgrade() -> None:
    for statement in statements("0010_adjustments.sql"):
        op.execute(statement)
    for table, (of_ledger, of_service) in TABLES.items():
        protect(op, "wallet", table)
        reveal(op, "wallet", table, "wallet_ledger")
        grant(op, "wallet_ledger", f"wallet.{table}", of_ledger)
        grant(op, "wallet_app", f"wallet.{table}", of_service)
    for signature in FUNCTIONS:
        own(op, "wallet", signature, "wallet_ledger", "wallet_app")
