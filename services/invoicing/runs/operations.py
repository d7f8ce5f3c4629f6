"""Starting a run, and billing one customer of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Database
from invoicing.invoices.domain.document import Invoice
from invoicing.invoices.operations import (
    StaleDraft,
    UsageReader,
    finalize,
    list_charges,
    load_basis,
    make_draft,
)
from invoicing.runs import store
from invoicing.runs.domain import Progress, Run, Turn, retry_pause
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id

STALE_MAX = 5  # times a customer may change under our hands before it is left for later


async def start_run(tx: Connection, tenant_id: UUID, as_of: datetime | None, now: datetime) -> Run:
    """Raises InvalidValue where the instant is yet to come."""
    if as_of is not None and as_of > now:
        raise InvalidValue("as_of", f"{as_of.isoformat()} is later than now, {now.isoformat()}")
    run = await store.insert_run(tx, tenant_id, new_id(now), as_of or now, now)
    assert run is not None
    await store.close_runs(tx, tenant_id)
    return run


async def get_progress(tx: Connection, tenant_id: UUID, run_id: UUID) -> Progress:
    progress = await store.find_progress(tx, tenant_id, run_id)
    if progress is None:
        raise NotFound("billing run", run_id)
    return progress


async def bill_customer(
    database: Database, reader: UsageReader, tenant_id: UUID, turn: Turn
) -> Invoice | None:
    """Bill what is due of one customer: read, compute, then one transaction.

    Raises UsageNotSettled while usage is on its way, and refusals of the services asked.
    """
    for _ in range(STALE_MAX):
        async with database.transaction(tenant_id) as tx:
            basis = await load_basis(tx, tenant_id, turn.customer_id)
        charges = list_charges(basis, turn.run.as_of, turn.run.as_of)
        consumptions = await reader.read(tenant_id, charges, None, settled=True)
        draft = make_draft(basis, charges, consumptions)
        try:
            async with database.transaction(tenant_id) as tx:
                invoice = await finalize(
                    tx,
                    tenant_id,
                    basis,
                    draft,
                    turn.run.as_of,
                    turn.run.issue_time,
                    turn.run.run_id,
                )
                await store.finish_turn(tx, tenant_id, turn.run.run_id, turn.customer_id)
            return invoice
        except StaleDraft:
            continue
    raise StaleDraft(f"customer {turn.customer_id} changes faster than it can be billed")


async def postpone(database: Database, tenant_id: UUID, turn: Turn, fault: str) -> None:
    """Leave a customer for later and say why."""
    async with database.transaction(tenant_id) as tx:
        await store.postpone_turn(tx, tenant_id, turn, fault, retry_pause(turn.attempts))
