"""What a batch of the gate reads and keeps, in one trip each."""

from __future__ import annotations

from alembic import op

from metering.migrations import statements

revision = "0005"
down_revision = "0004"

APP = "metering_app"
READ = "metering.read_gate(uuid, timestamptz, text[], text[], text[], text[], timestamptz[])"
KEEP = (
    "metering.keep_authorizations(uuid, uuid[], text[], bytea[], text[], text[], smallint[],"
    " smallint[], jsonb[], jsonb[], jsonb[], timestamptz[], timestamptz[])"
)


def upgrade() -> None:
    for statement in statements("0005_gate_trips.sql"):
        op.execute(statement)
    for function in (READ, KEEP):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {APP}")
