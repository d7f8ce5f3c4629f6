"""One table of its own beside the chassis'."""

from __future__ import annotations

from alembic import op

from chassis.migrations import chassis_tables, grant, protect

revision = "0001"
down_revision = None


def upgrade() -> None:
    chassis_tables(op, "probe", "probe_app", across_tenants=True)
    op.execute("CREATE TABLE note (tenant_id uuid, note_id text, PRIMARY KEY (tenant_id, note_id))")
    protect(op, "probe", "note")
    grant(op, "probe_app", "probe.note", "SELECT, INSERT, UPDATE, DELETE")
