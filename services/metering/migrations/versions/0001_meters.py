"""Meters, beside the tables that every service has."""

from __future__ import annotations

from alembic import op

from chassis.migrations import chassis_tables, grant, protect
from metering.migrations import statements

revision = "0001"
down_revision = None


def upgrade() -> None:
    chassis_tables(op, "metering", "metering_app")
    for statement in statements("0001_meters.sql"):
        op.execute(statement)
    for table in ("meter", "meter_set"):
        protect(op, "metering", table)
        grant(op, "metering_app", f"metering.{table}", "SELECT, INSERT")
    grant(op, "metering_app", "metering.meter", "UPDATE (until_version)")
    grant(op, "metering_app", "metering.meter_set", "UPDATE (version)")
