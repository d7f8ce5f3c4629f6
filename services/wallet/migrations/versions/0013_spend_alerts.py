"""Alerts on days left, on the burn rate, and on grants that expire soon."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal
from wallet.migrations import statements

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    for statement in statements("0013_spend_alerts.sql"):
        op.execute(statement)
    for table in ("spend_alerts", "burn_samples", "expiry_notices"):
        protect(op, "wallet", table)
        grant(op, "wallet_app", f"wallet.{table}", "SELECT, INSERT, UPDATE, DELETE")
    reveal(op, "wallet", "spend_alerts", "wallet_ledger")
    grant(op, "wallet_ledger", "wallet.spend_alerts", "SELECT")
    own(op, "wallet", "list_alerted_wallets", "wallet_ledger", "wallet_app")
