"""Nothing but the chassis' own tables."""

from __future__ import annotations

from alembic import op

from chassis.migrations import chassis_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    chassis_tables(op, "reader", "reader_app")
