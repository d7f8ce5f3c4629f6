"""Revisions of events that were reported wrongly."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect
from metering.migrations import statements

revision = "0006"
down_revision = "0005"

APP = "metering_app"


def upgrade() -> None:
    for statement in statements("0006_corrections.sql"):
        op.execute(statement)
    protect(op, "metering", "event_revision")
    grant(op, APP, "metering.event_revision", "SELECT, INSERT, UPDATE (state, refunds)")
