"""Balances, grants, holds, the journal, outcomes, recharges: tables that only the ledger writes."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect, reveal
from wallet.migrations import statements

revision = "0002"
down_revision = "0001"

# What the ledger's definer functions may do; the service's own role may only look.
MONEY_TABLES = {
    "balances": "SELECT, INSERT, UPDATE",
    "grants": "SELECT, INSERT, UPDATE",
    "holds": "SELECT, INSERT, UPDATE",
    "transfers": "SELECT, INSERT",
    "operations": "SELECT, INSERT",
    "recharges": "SELECT, INSERT",
    "recharge_rules": "SELECT, UPDATE",
    "balance_alerts": "SELECT, UPDATE",
}


def upgrade() -> None:
    for statement in statements("0002_ledger.sql"):
        op.execute(statement)
    for table, privileges in MONEY_TABLES.items():
        protect(op, "wallet", table)
        reveal(op, "wallet", table, "wallet_ledger")
        grant(op, "wallet_ledger", f"wallet.{table}", privileges)
        grant(op, "wallet_app", f"wallet.{table}", "SELECT")
    # Rules are not money: they are set by people and ended by the service.
    grant(op, "wallet_app", "wallet.recharge_rules", "INSERT, UPDATE")
    grant(op, "wallet_app", "wallet.recharges", "UPDATE (state, cause, end_time)")
    grant(op, "wallet_app", "wallet.balance_alerts", "INSERT, UPDATE, DELETE")
