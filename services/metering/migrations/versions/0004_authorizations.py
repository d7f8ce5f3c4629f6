"""Authorizations of the gate."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal
from metering.migrations import statements

revision = "0004"
down_revision = "0003"

APP, SWEEPER = "metering_app", "metering_sweeper"


def upgrade() -> None:
    for statement in statements("0004_authorizations.sql"):
        op.execute(statement)
    protect(op, "metering", "usage_authorization")
    grant(op, APP, "metering.usage_authorization", "SELECT, INSERT, UPDATE (state)")
    reveal(op, "metering", "usage_authorization", SWEEPER)
    grant(op, SWEEPER, "metering.usage_authorization", "SELECT")
    own(op, "metering", "list_tenants_with_overdue(timestamptz, integer)", SWEEPER, APP)
