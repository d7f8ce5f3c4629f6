"""A definer function that finds work across tenants and answers ids only."""

from __future__ import annotations

from alembic import op

from chassis.migrations import own, reveal

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    reveal(op, "probe", "note", "probe_sweeper")
    op.execute("GRANT SELECT ON note TO probe_sweeper")
    op.execute(
        "CREATE FUNCTION due_notes(count_max integer) RETURNS TABLE (tenant_id uuid, note_id text)"
        " LANGUAGE sql STABLE SECURITY DEFINER SET search_path = probe, pg_temp"
        " AS 'SELECT tenant_id, note_id FROM note LIMIT count_max'"
    )
    own(op, "probe", "due_notes(integer)", "probe_sweeper", "probe_app")
