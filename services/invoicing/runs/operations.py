"""Starting a run, and billing customers of it, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import structlog

from chassis.database import Connection, Database, DatabaseUnavailable
from invoicing.credits.operations import credit_late
from invoicing.invoices.domain.charge import Charge
from invoicing.invoices.domain.document import Draft
from invoicing.invoices.operations import (
    Basis,
    StaleDraft,
    UsageNotSettled,
    UsageReader,
    finalize,
    list_charges,
    list_due,
    list_progress,
    load_bases,
    make_draft,
    make_progressive,
)
from invoicing.renewals.operations import renew_due
from invoicing.runs import store
from invoicing.runs.domain import Progress, Run, Turn, retry_pause
from kernel.errors import InvalidValue, NotFound, Refusal
from kernel.ids import new_id

log = structlog.get_logger("invoicing.runs")

STALE_MAX = 5  # times a customer may change under our hands before it is left for later


async def start_run(
    tx: Connection,
    tenant_id: UUID,
    as_of: datetime | None,
    now: datetime,
    customer_id: str = "",
) -> Run:
    """Start a run over everybody, or one customer.

    Raises InvalidValue where the instant is yet to come.
    """
    if as_of is not None and as_of > now:
        raise InvalidValue("as_of", f"{as_of.isoformat()} is later than now, {now.isoformat()}")
    run = await store.insert_run(
        tx, tenant_id, new_id(now), as_of or now, now, customer_id=customer_id
    )
    assert run is not None
    await store.close_runs(tx, tenant_id)
    return run


async def get_progress(tx: Connection, tenant_id: UUID, run_id: UUID) -> Progress:
    progress = await store.find_progress(tx, tenant_id, run_id)
    if progress is None:
        raise NotFound("billing run", run_id)
    return progress


async def bill_customers(
    database: Database, reader: UsageReader, tenant_id: UUID, turns: Sequence[Turn]
) -> None:
    """Bill what is due of customers of one run: read, compute, then one transaction for all.

    Who cannot be billed now is postponed with the reason and keeps nobody else from it. Where
    the transaction fails, for example since a customer changed meanwhile, each is billed alone.
    """
    run = turns[0].run
    names = {turn.customer_id: turn for turn in turns}
    async with database.transaction(tenant_id) as tx:
        # What is renewed at other prices by now is billed at them.
        await renew_due(tx, tenant_id, list(names), run.as_of, run.issue_time)
        bases = await load_bases(tx, tenant_id, list(names))
    charges = {one: _charges(basis, run) for one, basis in bases.items()}
    everything = [charge for own in charges.values() for charge in own]
    consumptions, pending = await reader.read_all(tenant_id, everything, None)
    work: list[tuple[Basis, Draft]] = []
    done: list[str] = []
    postponed: list[tuple[Turn, str]] = []
    for customer_id, basis in bases.items():
        waiting = sum(pending.get(party.customer_id, 0) for party in basis.parties)
        try:
            if waiting:
                raise UsageNotSettled(waiting)
            own = charges[customer_id]
            if any(charge.progress for charge in own):
                ahead = make_progressive(basis, own, consumptions)
                work += [(basis, ahead)] if ahead is not None else []
                done.append(customer_id)
                continue
            work.append((basis, make_draft(basis, own, consumptions)))
            done.append(customer_id)
        except Refusal as refusal:
            postponed.append((names[customer_id], str(refusal)))
    try:
        async with database.transaction(tenant_id) as tx:
            await finalize(tx, tenant_id, work, run.as_of, run.issue_time, run.run_id)
            for late in (one for _, draft in work for one in draft.credits):
                await credit_late(tx, tenant_id, late, run.issue_time)
            await store.finish_turns(tx, tenant_id, run.run_id, done)
            for turn, fault in postponed:
                await store.postpone_turn(tx, tenant_id, turn, fault, retry_pause(turn.attempts))
    except StaleDraft:
        if len(turns) == 1:
            raise
        for turn in turns:
            await bill_customer(database, reader, tenant_id, turn)


def _charges(basis: Basis, run: Run) -> list[Charge]:
    """What falls due; where nothing does, what has accrued of usage by a threshold."""
    due = [] if run.ahead else list_due(basis, run.as_of)
    if due or basis.customer.billing_threshold is None:
        return list_charges(basis, run.as_of, run.as_of) if not run.ahead else []
    return list_progress(basis, run.as_of)


async def bill_customer(
    database: Database, reader: UsageReader, tenant_id: UUID, turn: Turn
) -> None:
    """Bill one customer alone; what goes wrong is its own fault, told with it."""
    try:
        for _ in range(STALE_MAX):
            with suppress(StaleDraft):
                await bill_customers(database, reader, tenant_id, [turn])
                return
        fault = f"customer {turn.customer_id} changes faster than it can be billed"
    except DatabaseUnavailable:
        raise
    except Refusal as refusal:
        fault = str(refusal)
    except Exception as error:
        # One customer's bug is no reason to leave the others without their invoices.
        log.error("billing_failed", customer_id=turn.customer_id, exc_info=error)
        fault = f"a fault of ours: {type(error).__name__}"
    async with database.transaction(tenant_id) as tx:
        await store.postpone_turn(tx, tenant_id, turn, fault, retry_pause(turn.attempts))
