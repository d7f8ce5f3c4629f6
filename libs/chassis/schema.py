"""Words that migrations are written with: row security, grants, and the tables every service has.

Each takes Alembic's `op` and states its SQL in full, so that a migration reads as what it does.
"""

from __future__ import annotations

from importlib import resources
from typing import Protocol

# The only tables without a tenant: what version the schema is, and which relay is at work.
TENANTLESS_TABLES = frozenset({"schema_version", "schema_state", "outbox_relay"})


class Operations(Protocol):
    """The one thing that these words ask of Alembic's `op`."""

    def execute(self, sqltext: str) -> None: ...


def protect(op: Operations, schema: str, table: str) -> None:
    """Guard a table so that a transaction sees the rows of its own tenant and no others.

    A transaction that named no tenant gets an error, not an empty answer: the setting is unset, or
    is the empty string an earlier transaction left behind, and neither is a UUID. The owner is
    guarded too. Call it once per table, partitioned parents and their partitions alike.
    """
    own_rows = "tenant_id = current_setting('tollgate.tenant_id')::uuid"
    op.execute(f"ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {schema}.{table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY own_tenant_only ON {schema}.{table}"
        f" USING ({own_rows}) WITH CHECK ({own_rows})"
    )


def reveal(op: Operations, schema: str, table: str, role: str) -> None:
    """Let one NOLOGIN owner of definer functions pass a table's guard, for every tenant."""
    op.execute(
        f"CREATE POLICY {role}_sees_all ON {schema}.{table} TO {role}"
        " USING (true) WITH CHECK (true)"
    )


def grant(op: Operations, role: str, table: str, privileges: str) -> None:
    """Give a role privileges on a table, named with its schema: "SELECT, INSERT"."""
    op.execute(f"GRANT {privileges} ON {table} TO {role}")


def own(op: Operations, schema: str, signature: str, owner: str, *callers: str) -> None:
    """Give a definer function to its NOLOGIN owner, and let `callers` alone execute it.

    `signature` is the function with its argument types: "due_holds(integer)".
    """
    function = f"{schema}.{signature}"
    op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    for caller in callers:
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {caller}")
    op.execute(f"ALTER FUNCTION {function} OWNER TO {owner}")


def chassis_tables(
    op: Operations, schema: str, app_role: str, *, across_tenants: bool = False
) -> None:
    """Make `outbox`, `inbox`, `request` and the functions that the relay and the consumer call.

    With `across_tenants`, `outbox_append` is made too: a batch that serves many tenants in one
    transaction appends through it (`messages.append_across`).
    """
    sweeper = f"{schema}_sweeper"
    for statement in _statements("tables.sql", schema):
        op.execute(statement)
    for table in ("outbox", "inbox", "request"):
        protect(op, schema, table)
        reveal(op, schema, table, sweeper)
        grant(op, app_role, f"{schema}.{table}", "SELECT, INSERT")
        grant(op, sweeper, f"{schema}.{table}", "SELECT, INSERT, UPDATE, DELETE")
    grant(op, app_role, f"{schema}.inbox", "UPDATE")
    grant(op, app_role, f"{schema}.request", "UPDATE (response)")
    grant(op, sweeper, f"{schema}.outbox_relay", "SELECT, UPDATE")
    for statement in _statements("functions.sql", schema):
        op.execute(statement)
    for signature in _SIGNATURES:
        own(op, schema, signature, sweeper, app_role)
    if across_tenants:
        for statement in _statements("append.sql", schema):
            op.execute(statement)
        own(op, schema, _APPEND_SIGNATURE, sweeper, app_role)


_SIGNATURES = (
    "outbox_lease(uuid, integer)",
    "outbox_release(uuid)",
    "outbox_pending(integer)",
    "outbox_mark_published(uuid, uuid[], text)",
    "outbox_reopen(uuid)",
    "inbox_due(integer, integer)",
    "inbox_unpark(text[])",
    "chassis_sweep(integer, integer, integer)",
)
_APPEND_SIGNATURE = "outbox_append(uuid[], uuid[], text[], bytea[], text)"


def _statements(name: str, schema: str) -> list[str]:
    source = resources.files("chassis").joinpath("sql", name).read_text(encoding="utf-8")
    # Statements are parted by a line of their own, since functions have semicolons inside.
    parts = source.replace("{schema}", schema).split("\n--;\n")
    return [part.strip().removesuffix(";") for part in parts if part.strip()]
