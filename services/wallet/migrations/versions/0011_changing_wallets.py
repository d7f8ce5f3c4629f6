"""Wallets that change after they were made."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own
from wallet.migrations import statements

revision = "0011"
down_revision = "0010"

CHANGEABLE = (
    "name, priority, meters, features, products, shortfall_mode, late_capture_allowed,"
    " over_capture, state_cause, state_time"
)
FUNCTIONS = ("set_overdrafts", "list_policies")


def upgrade() -> None:
    for statement in statements("0011_changing_wallets.sql"):
        op.execute(statement)
    grant(op, "wallet_app", "wallet.wallets", f"UPDATE ({CHANGEABLE})")
    for signature in FUNCTIONS:
        own(op, "wallet", signature, "wallet_ledger", "wallet_app")
