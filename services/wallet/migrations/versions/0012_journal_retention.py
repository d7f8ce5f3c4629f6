"""Days of the journal are archived: summed up in checkpoints, and detached."""

from __future__ import annotations

from alembic import op

from chassis.migrations import own
from wallet.migrations import statements

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    for statement in statements("0012_journal_retention.sql"):
        op.execute(statement)
    fold = "fold_day(regclass, timestamptz, timestamptz)"
    own(op, "wallet", fold, "wallet_ledger", "wallet_migrate")
    # Days are their owner's; the service may ask for the oldest to go, and for nothing else.
    own(op, "wallet", "archive_oldest_day(integer)", "wallet_migrate", "wallet_app")
