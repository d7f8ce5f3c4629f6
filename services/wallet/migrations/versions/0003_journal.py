"""The journal's days, and the triggers that make it and the outcomes append-only."""

from __future__ import annotations

from alembic import op

from chassis.migrations import own
from wallet.migrations import statements

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for statement in statements("0003_journal.sql"):
        op.execute(statement)
    # Days are made by their owner; the service may ask for more of them, and for nothing else.
    own(op, "wallet", "extend_journal(integer)", "wallet_migrate", "wallet_app")
