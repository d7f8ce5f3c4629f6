"""Events that wait for a meter or a price."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal
from metering.migrations import statements

revision = "0007"
down_revision = "0006"

APP, SWEEPER = "metering_app", "metering_sweeper"


def upgrade() -> None:
    for statement in statements("0007_parking.sql"):
        op.execute(statement)
    for table in ("ingest_policy", "parked_event"):
        protect(op, "metering", table)
        grant(op, APP, f"metering.{table}", "SELECT, INSERT")
    grant(op, APP, "metering.ingest_policy", "UPDATE (unmatched, unusable, unpriced)")
    grant(
        op,
        APP,
        "metering.parked_event",
        "DELETE, UPDATE (refusal, meter_version, attempts, next_attempt_time, discard_reason,"
        " discard_time)",
    )
    # A parked event that is taken up gets a receipt of its own.
    grant(op, APP, "metering.event_receipt", "UPDATE (receipt_id)")
    for table in ("parked_event", "meter_set"):
        reveal(op, "metering", table, SWEEPER)
        grant(op, SWEEPER, f"metering.{table}", "SELECT")
    own(op, "metering", "list_tenants_with_parked(integer)", SWEEPER, APP)
