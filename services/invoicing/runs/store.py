"""SQL of billing runs. Leases and pauses are of the machine's clock, whatever the tenant's says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.runs.domain import Fault, Progress, Run, RunState, Turn

FAULTS_SHOWN_MAX = 100
FAULT_CHARACTERS_MAX = 500


async def insert_run(
    tx: Connection,
    tenant_id: UUID,
    run_id: UUID,
    as_of: datetime,
    issue_time: datetime,
    *,
    ahead: bool = False,
    customer_id: str = "",
) -> Run | None:
    """A run over all customers of whom something is due, or may have reached their threshold;
    `ahead`, over the latter alone; with a customer, over whoever pays for it. None where the run
    exists already."""
    first = await tx.fetchval(
        "INSERT INTO billing_run (tenant_id, run_id, as_of, issue_time, state, customers,"
        " ahead) VALUES ($1, $2, $3, $4, 'RUNNING', 0, $5) ON CONFLICT DO NOTHING RETURNING true",
        tenant_id,
        run_id,
        as_of,
        issue_time,
        ahead,
    )
    if not first:
        return None
    status = await tx.execute(
        "INSERT INTO billing_run_customer (tenant_id, run_id, customer_id)"
        " SELECT DISTINCT $1::uuid, $2::uuid,"
        " coalesce(nullif(c.payer_customer_id, ''), c.customer_id) FROM subscription AS s"
        " JOIN customer AS c ON c.tenant_id = s.tenant_id AND c.customer_id = s.customer_id"
        " WHERE s.tenant_id = $1 AND s.next_bill_time <= $3 AND NOT $4"
        " AND ($5 = '' OR s.customer_id = $5)"
        " UNION SELECT $1, $2, p.customer_id FROM customer AS p"
        " WHERE p.tenant_id = $1 AND p.billing_threshold IS NOT NULL"
        " AND p.payer_customer_id = '' AND $5 = ''",
        tenant_id,
        run_id,
        as_of,
        ahead,
        customer_id,
    )
    customers = int(status.rpartition(" ")[2])
    await tx.execute(
        "UPDATE billing_run SET customers = $3 WHERE tenant_id = $1 AND run_id = $2",
        tenant_id,
        run_id,
        customers,
    )
    return Run(run_id, as_of, issue_time, RunState.RUNNING, customers, ahead)


async def claim_turns(tx: Connection, tenant_id: UUID, limit: int, lease: timedelta) -> list[Turn]:
    """Customers to bill now, oldest run first; others may have them after the lease."""
    rows = await tx.fetch(
        "UPDATE billing_run_customer AS c SET next_try_time = clock_timestamp() + $3"
        " FROM (SELECT d.run_id, d.customer_id, r.as_of, r.issue_time, r.state, r.customers,"
        "  r.ahead FROM billing_run_customer AS d"
        "  JOIN billing_run AS r ON r.tenant_id = d.tenant_id AND r.run_id = d.run_id"
        "  WHERE d.tenant_id = $1 AND NOT d.done AND r.state = 'RUNNING'"
        "  AND d.next_try_time <= clock_timestamp()"
        "  ORDER BY d.run_id, d.customer_id LIMIT $2 FOR UPDATE OF d SKIP LOCKED) AS due"
        " WHERE c.tenant_id = $1 AND c.run_id = due.run_id AND c.customer_id = due.customer_id"
        " RETURNING due.*, c.attempts",
        tenant_id,
        limit,
        lease,
    )
    return [Turn(_run(row), row["customer_id"], row["attempts"]) for row in rows]


async def finish_turns(
    tx: Connection, tenant_id: UUID, run_id: UUID, customer_ids: Sequence[str]
) -> None:
    """These customers' parts of the run are over."""
    await tx.execute(
        "UPDATE billing_run_customer SET done = true, fault = ''"
        " WHERE tenant_id = $1 AND run_id = $2 AND customer_id = ANY ($3)",
        tenant_id,
        run_id,
        list(customer_ids),
    )


async def postpone_turn(
    tx: Connection, tenant_id: UUID, turn: Turn, fault: str, pause: timedelta
) -> None:
    """Say why a customer could not be billed, and try again after a pause."""
    await tx.execute(
        "UPDATE billing_run_customer SET fault = $4, attempts = attempts + 1,"
        " next_try_time = clock_timestamp() + $5"
        " WHERE tenant_id = $1 AND run_id = $2 AND customer_id = $3 AND NOT done",
        tenant_id,
        turn.run.run_id,
        turn.customer_id,
        fault[:FAULT_CHARACTERS_MAX],
        pause,
    )


async def close_runs(tx: Connection, tenant_id: UUID) -> None:
    """Runs whose customers are all done are done."""
    await tx.execute(
        "UPDATE billing_run AS r SET state = 'DONE' WHERE r.tenant_id = $1"
        " AND r.state = 'RUNNING' AND NOT EXISTS (SELECT FROM billing_run_customer AS c"
        " WHERE c.tenant_id = r.tenant_id AND c.run_id = r.run_id AND NOT c.done)",
        tenant_id,
    )


async def drop_runs_ahead(tx: Connection, tenant_id: UUID) -> None:
    """Forget runs for thresholds that are done: there is one every few minutes."""
    await tx.execute(
        "DELETE FROM billing_run_customer AS c USING billing_run AS r WHERE c.tenant_id = $1"
        " AND r.tenant_id = $1 AND r.run_id = c.run_id AND r.ahead AND r.state = 'DONE'",
        tenant_id,
    )
    await tx.execute(
        "DELETE FROM billing_run WHERE tenant_id = $1 AND ahead AND state = 'DONE'", tenant_id
    )


async def list_tenants_with_thresholds(connection: Connection) -> list[UUID]:
    rows = await connection.fetch("SELECT * FROM tenants_with_thresholds()")
    return [row[0] for row in rows]


async def find_progress(tx: Connection, tenant_id: UUID, run_id: UUID) -> Progress | None:
    row = await tx.fetchrow(
        "SELECT run_id, as_of, issue_time, state, customers, ahead,"
        " (SELECT count(*) FROM billing_run_customer AS c WHERE c.tenant_id = $1"
        "  AND c.run_id = $2 AND c.done) AS customers_done,"
        " (SELECT count(*) FROM invoice AS i WHERE i.tenant_id = $1 AND i.run_id = $2)"
        "  AS invoices,"
        " (SELECT count(*) FROM invoice AS i WHERE i.tenant_id = $1 AND i.run_id = $2"
        "  AND NOT (i.state = 'OPEN' AND i.dunning_state = 'NONE')) AS invoices_collected"
        " FROM billing_run WHERE tenant_id = $1 AND run_id = $2",
        tenant_id,
        run_id,
    )
    if row is None:
        return None
    faults = await tx.fetch(
        "SELECT customer_id, fault FROM billing_run_customer WHERE tenant_id = $1"
        " AND run_id = $2 AND NOT done AND fault <> '' ORDER BY customer_id LIMIT $3",
        tenant_id,
        run_id,
        FAULTS_SHOWN_MAX,
    )
    return Progress(
        run=_run(row),
        customers_done=row["customers_done"],
        invoices=row["invoices"],
        invoices_collected=row["invoices_collected"],
        faults=tuple(Fault(fault["customer_id"], fault["fault"]) for fault in faults),
    )


async def list_tenants_with_runs(connection: Connection) -> list[UUID]:
    rows = await connection.fetch("SELECT * FROM tenants_with_runs()")
    return [row[0] for row in rows]


async def list_tenants_to_bill(connection: Connection, until: datetime) -> list[UUID]:
    rows = await connection.fetch("SELECT * FROM tenants_to_bill($1)", until)
    return [row[0] for row in rows]


def _run(row: asyncpg.Record) -> Run:
    return Run(
        run_id=row["run_id"],
        as_of=row["as_of"],
        issue_time=row["issue_time"],
        state=RunState(row["state"]),
        customers=row["customers"],
        ahead=row["ahead"],
    )
