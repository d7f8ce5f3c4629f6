"""Events by day of receipt, the ids that were received, and batches of charges to settle."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal
from metering.migrations import statements

revision = "0002"
down_revision = "0001"

APP, SWEEPER = "metering_app", "metering_sweeper"


def upgrade() -> None:
    for statement in statements("0002_events.sql"):
        op.execute(statement)
    for table in ("customer", "event_receipt", "event", "event_unforeseen", "charge_batch"):
        protect(op, "metering", table)
    grant(op, APP, "metering.customer", "SELECT, INSERT, UPDATE (sequence, usage_count)")
    grant(op, APP, "metering.event_receipt", "SELECT, INSERT, DELETE")
    grant(op, APP, "metering.event", "SELECT, INSERT, UPDATE (state, refusal, lines)")
    grant(op, APP, "metering.charge_batch", "SELECT, INSERT, DELETE")
    reveal(op, "metering", "charge_batch", SWEEPER)
    grant(op, SWEEPER, "metering.charge_batch", "SELECT")
    own(op, "metering", "list_stale_batches(double precision, integer)", SWEEPER, APP)
    # Partitions belong to the owner of their table, so this function stays the schema owner's.
    op.execute("GRANT EXECUTE ON FUNCTION metering.make_event_partitions(integer) TO metering_app")
