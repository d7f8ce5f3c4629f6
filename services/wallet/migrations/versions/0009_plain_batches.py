"""Plain items are decided by the database, in one trip."""

from __future__ import annotations

from alembic import op

from chassis.migrations import own
from wallet.migrations import statements

revision = "0009"
down_revision = "0008"

FUNCTIONS = ("weigh_plain", "spend_plain", "capture_plain")


def upgrade() -> None:
    for statement in statements("0009_plain_batches.sql"):
        op.execute(statement)
    for signature in FUNCTIONS:
        own(op, "wallet", signature, "wallet_ledger", "wallet_app")
