"""The first half of a money batch: lock, then look."""

from __future__ import annotations

from alembic import op

from chassis.migrations import own
from wallet.migrations import statements

revision = "0004"
down_revision = "0003"

FUNCTIONS = ("open_batch", "list_open_grants")


def upgrade() -> None:
    for statement in statements("0004_open_batch.sql"):
        op.execute(statement)
    op.execute("GRANT EXECUTE ON FUNCTION wallet.id_pairs(text) TO wallet_ledger")
    for signature in FUNCTIONS:
        own(op, "wallet", signature, "wallet_ledger", "wallet_app")
