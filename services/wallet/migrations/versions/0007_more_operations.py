"""More kinds of moves, and holds that are increased."""

from __future__ import annotations

from alembic import op

from chassis.migrations import own
from wallet.migrations import statements

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for statement in statements("0007_more_operations.sql"):
        op.execute(statement)
    own(op, "wallet", "grow_holds", "wallet_ledger", "wallet_app")
