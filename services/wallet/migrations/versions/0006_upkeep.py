"""Functions for opening overdrafts and for finding what time has overtaken."""

from __future__ import annotations

from alembic import op

from chassis.migrations import own
from wallet.migrations import statements

revision = "0006"
down_revision = "0005"

FUNCTIONS = (
    "open_overdrafts",
    "list_tenants",
    "list_due_balances",
    "list_due_holds",
)


def upgrade() -> None:
    for statement in statements("0006_upkeep.sql"):
        op.execute(statement)
    for signature in FUNCTIONS:
        own(op, "wallet", signature, "wallet_ledger", "wallet_app")
