"""SQL of collection: what is due to be asked for, and what was answered."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Connection


async def list_tenants_to_collect(connection: Connection, *, all_planned: bool) -> list[UUID]:
    """Whose work is due by the machine's clock, or planned at all."""
    rows = await connection.fetch("SELECT * FROM tenants_to_collect($1)", all_planned)
    return [row[0] for row in rows]


async def claim_due(
    tx: Connection,
    tenant_id: UUID,
    now: datetime,
    limit: int,
    lease: timedelta,
    *,
    of_runs: bool = True,
) -> list[UUID]:
    """Open invoices whose payment is to be asked for, or whose last question is undecided.

    `now` is the tenant's, the lease the machine's. Without `of_runs`, those alone that somebody
    waits for: what billing runs issued is left for later.
    """
    rows = await tx.fetch(
        "UPDATE invoice AS v SET claim_end_time = clock_timestamp() + $4"
        " FROM (SELECT d.invoice_id FROM invoice AS d WHERE d.tenant_id = $1"
        "  AND d.state = 'OPEN' AND (d.ask_open OR d.next_attempt_time <= $2)"
        "  AND d.claim_end_time <= clock_timestamp() AND ($5 OR d.run_id IS NULL)"
        "  ORDER BY d.next_attempt_time, d.invoice_id LIMIT $3 FOR UPDATE SKIP LOCKED) AS due"
        " WHERE v.tenant_id = $1 AND v.invoice_id = due.invoice_id RETURNING v.invoice_id",
        tenant_id,
        now,
        limit,
        lease,
        of_runs,
    )
    return [row["invoice_id"] for row in rows]


async def set_claim(tx: Connection, tenant_id: UUID, invoice_id: UUID, pause: timedelta) -> None:
    """Leave an invoice whose question is undecided alone for so long of the machine's time."""
    await tx.execute(
        "UPDATE invoice SET claim_end_time = clock_timestamp() + $3"
        " WHERE tenant_id = $1 AND invoice_id = $2 AND ask_open",
        tenant_id,
        invoice_id,
        pause,
    )


async def list_waiting(tx: Connection, tenant_id: UUID, since: datetime, limit: int) -> list[UUID]:
    """Invoices that wait for their customer and were first asked for by an instant."""
    rows = await tx.fetch(
        "SELECT invoice_id FROM invoice WHERE tenant_id = $1 AND state = 'OPEN'"
        " AND dunning_state = 'WAITING_FOR_CUSTOMER' AND first_attempt_time <= $2"
        " ORDER BY invoice_id LIMIT $3",
        tenant_id,
        since,
        limit,
    )
    return [row["invoice_id"] for row in rows]


async def list_attempt_states(
    tx: Connection, tenant_id: UUID, invoice_id: UUID, attempt_id: str
) -> list[str]:
    """The states that an attempt is known to have reached."""
    rows = await tx.fetch(
        "SELECT state FROM payment_attempt"
        " WHERE tenant_id = $1 AND invoice_id = $2 AND attempt_id = $3",
        tenant_id,
        invoice_id,
        attempt_id,
    )
    return [row["state"] for row in rows]


async def insert_attempt(
    tx: Connection,
    tenant_id: UUID,
    invoice_id: UUID,
    attempt_id: str,
    state: str,
    decline: tuple[str, str],
    now: datetime,
) -> bool:
    """Record that an attempt reached a state; False where that is known already."""
    return bool(
        await tx.fetchval(
            "INSERT INTO payment_attempt (tenant_id, invoice_id, attempt_id, state,"
            " decline_class, decline_code, record_time) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            " ON CONFLICT DO NOTHING RETURNING true",
            tenant_id,
            invoice_id,
            attempt_id,
            state,
            *decline,
            now,
        )
    )
