"""Versions of meters, and what levels and unique counts need to know."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect
from metering.migrations import statements

revision = "0008"
down_revision = "0007"

APP = "metering_app"
SIGHTING = "event_count, last_time, last_sequence, is_active"


def upgrade() -> None:
    for statement in statements("0008_meter_versions.sql"):
        op.execute(statement)
    grant(op, APP, "metering.meter", "DELETE, UPDATE (from_version, effective_time)")
    grant(op, APP, "metering.usage_hour", "UPDATE (leverage, last_time, last_sequence)")
    for table in ("usage_key", "usage_hour_key"):
        protect(op, "metering", table)
        grant(op, APP, f"metering.{table}", f"SELECT, INSERT, DELETE, UPDATE ({SIGHTING})")
