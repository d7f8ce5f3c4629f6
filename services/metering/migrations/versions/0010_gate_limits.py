"""Limits at the gate, nodes of budgets, and events that leave their authorization open."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect
from metering.migrations import statements

revision = "0010"
down_revision = "0009"

APP = "metering_app"
FUNCTIONS = ("read_limits", "pass_guards", "keep_answers")


def upgrade() -> None:
    for statement in statements("0010_gate_limits.sql"):
        op.execute(statement)
    for table in ("limit_guard", "limit_window"):
        protect(op, "metering", table)
        grant(op, APP, f"metering.{table}", "SELECT, INSERT, UPDATE")
    grant(
        op,
        APP,
        "metering.usage_authorization",
        "UPDATE (holds, reserved, measured, details, expire_time)",
    )
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION metering.{function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION metering.{function} TO {APP}")
