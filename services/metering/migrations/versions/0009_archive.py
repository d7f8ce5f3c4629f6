"""Days of events that were written to files."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal
from metering.migrations import statements

revision = "0009"
down_revision = "0008"

APP, SWEEPER, OWNER = "metering_app", "metering_sweeper", "metering_migrate"


def upgrade() -> None:
    for statement in statements("0009_archive.sql"):
        op.execute(statement)
    protect(op, "metering", "event_archive")
    grant(
        op,
        APP,
        "metering.event_archive",
        "SELECT, INSERT, UPDATE (path, event_count, octets, sha256, create_time, keep_until)",
    )
    for table in ("event", "event_archive"):
        reveal(op, "metering", table, SWEEPER)
        grant(op, SWEEPER, f"metering.{table}", "SELECT")
    op.execute(f"GRANT EXECUTE ON FUNCTION metering.receipt_bound(date) TO {SWEEPER}, {APP}")
    own(op, "metering", "list_tenants_of_day(date)", SWEEPER, APP)
    own(op, "metering", "is_day_archived(date)", SWEEPER, APP, OWNER)
    # Partitions belong to the owner of their table, so these stay the schema owner's.
    for function in (
        "list_event_days(date)", "drop_event_partition(date)", "make_event_partition(date)"
    ):  # fmt: skip
        op.execute(f"REVOKE ALL ON FUNCTION metering.{function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION metering.{function} TO {APP}")
