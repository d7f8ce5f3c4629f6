"""Running usage by subscription item and billing period, and usage by hour."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect
from metering.migrations import statements

revision = "0003"
down_revision = "0002"

MOVING = "quantity, event_count, rating_state, asked, shortfall, left_over"


def upgrade() -> None:
    for statement in statements("0003_usage.sql"):
        op.execute(statement)
    for table in ("pricing", "usage", "usage_hour"):
        protect(op, "metering", table)
        grant(op, "metering_app", f"metering.{table}", "SELECT, INSERT")
    grant(op, "metering_app", "metering.usage", f"UPDATE ({MOVING})")
    grant(op, "metering_app", "metering.usage_hour", "UPDATE (quantity, event_count)")
