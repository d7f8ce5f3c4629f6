"""Runs that add usage of the past, or replace it."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal
from metering.migrations import statements

revision = "0011"
down_revision = "0010"

APP, SWEEPER = "metering_app", "metering_sweeper"


def upgrade() -> None:
    for statement in statements("0011_backfills.sql"):
        op.execute(statement)
    for table in ("backfill", "backfill_event"):
        protect(op, "metering", table)
        grant(op, APP, f"metering.{table}", "SELECT, INSERT")
    grant(op, APP, "metering.backfill", "UPDATE (state, has_replaced)")
    grant(op, APP, "metering.backfill_event", "UPDATE (state, refusal)")
    reveal(op, "metering", "backfill", SWEEPER)
    grant(op, SWEEPER, "metering.backfill", "SELECT")
    own(op, "metering", "list_backfills_under_way(integer)", SWEEPER, APP)
