"""The second half of a money batch: write what was decided."""

from __future__ import annotations

from alembic import op

from chassis.migrations import own
from wallet.migrations import statements

revision = "0005"
down_revision = "0004"

FUNCTIONS = ("record_batch", "record_signals")


def upgrade() -> None:
    for statement in statements("0005_record_batch.sql"):
        op.execute(statement)
    op.execute("GRANT EXECUTE ON FUNCTION wallet.fields(text) TO wallet_ledger")
    for signature in FUNCTIONS:
        own(op, "wallet", signature, "wallet_ledger", "wallet_app")
