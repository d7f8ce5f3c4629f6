"""SQL of attempts, of the operations that carry them out, and of the evidence about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from chassis.database import Connection
from gateway.attempts.domain import Kind, Operation
from gateway.domain.attempt import Attempt, State
from gateway.domain.outcome import DeclineClass, Finding, NextAction, Witness
from gateway.domain.resolution import Asking
from gateway.providers.driver import CallRecord
from kernel.currency import MINOR_DIGITS
from kernel.ids import new_id
from kernel.money import Amount, Asset

_SELECT = (
    "SELECT a.attempt_id, a.payment_id, a.number, a.provider_account_id, a.payment_method_id,"
    " a.state, a.provider_payment_id, a.stated_asset, a.stated_atoms, a.decline_code,"
    " a.decline_class, a.action_url, a.action_expire_time, a.told, a.create_time, a.update_time,"
    " a.capture_atoms, a.captured_atoms, a.refunded_atoms, a.disputed_atoms,"
    " p.asset, p.minor_digits, p.atoms, p.capture_later, c.code"
    " FROM attempt AS a JOIN payment AS p USING (tenant_id, payment_id)"
    " JOIN provider_account AS c ON (c.tenant_id, c.provider_account_id)"
    " = (a.tenant_id, a.provider_account_id)"
)
_COLUMNS = (
    " operation_id, target_id, provider_account_id, idempotency_key, reference, notes,"
    " lease_until, tries, start_time, sent_time, asks, unknown_since, empty_find_time, handed_over,"
    " kind, state, acknowledged, rejection"
)
_SELECT_OPERATION = f"SELECT{_COLUMNS} FROM operation"


async def insert_attempt(tx: Connection, tenant_id: UUID, attempt: Attempt) -> None:
    await tx.execute(
        "INSERT INTO attempt (tenant_id, attempt_id, payment_id, number, provider_account_id,"
        " payment_method_id, state, create_time, update_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tenant_id,
        attempt.attempt_id,
        attempt.payment_id,
        attempt.number,
        attempt.provider_account_id,
        attempt.payment_method_id,
        attempt.state.value,
        attempt.create_time,
        attempt.update_time,
    )


async def list_attempts(
    tx: Connection, tenant_id: UUID, payment_ids: Sequence[UUID]
) -> dict[UUID, list[Attempt]]:
    """The attempts of some payments, oldest first."""
    rows = await tx.fetch(
        f"{_SELECT} WHERE a.tenant_id = $1 AND a.payment_id = ANY ($2::uuid[])"
        " ORDER BY a.payment_id, a.number",
        tenant_id,
        list(payment_ids),
    )
    found: dict[UUID, list[Attempt]] = {}
    for row in rows:
        found.setdefault(row["payment_id"], []).append(_attempt(row))
    return found


async def find_attempt(
    tx: Connection,
    tenant_id: UUID,
    provider_account_id: UUID,
    reference: UUID | None,
    provider_payment_id: str,
) -> Attempt | None:
    """The attempt that a provider speaks of, by our reference or by its own id."""
    row = await tx.fetchrow(
        f"{_SELECT} WHERE a.tenant_id = $1 AND a.provider_account_id = $2"
        " AND (a.attempt_id = $3 OR ($4 <> '' AND a.provider_payment_id = $4))"
        " ORDER BY a.attempt_id = $3 DESC NULLS LAST LIMIT 1",
        tenant_id,
        provider_account_id,
        reference,
        provider_payment_id,
    )
    return _attempt(row) if row else None


async def save_attempt(tx: Connection, tenant_id: UUID, attempt: Attempt) -> None:
    stated, action = attempt.stated, attempt.action
    await tx.execute(
        "UPDATE attempt SET state = $3, provider_payment_id = $4, stated_asset = $5,"
        " stated_atoms = $6, decline_code = $7, decline_class = $8, action_url = $9,"
        " action_expire_time = $10, told = $11, update_time = $12, captured_atoms = $13"
        " WHERE tenant_id = $1 AND attempt_id = $2",
        tenant_id,
        attempt.attempt_id,
        attempt.state.value,
        attempt.provider_payment_id,
        stated.asset.code if stated else None,
        Decimal(stated.atoms) if stated else None,
        attempt.decline_code,
        attempt.decline_class.value if attempt.decline_class else None,
        action.url if action else "",
        action.expire_time if action else None,
        sorted(state.value for state in attempt.told),
        attempt.update_time,
        Decimal(attempt.captured.atoms) if attempt.captured else None,
    )


async def save_capture_amount(
    tx: Connection, tenant_id: UUID, attempt_id: UUID, amount: Amount
) -> None:
    """How much a capture is to take."""
    await tx.execute(
        "UPDATE attempt SET capture_atoms = $3 WHERE tenant_id = $1 AND attempt_id = $2",
        tenant_id,
        attempt_id,
        Decimal(amount.atoms),
    )


async def reserve_refund(tx: Connection, tenant_id: UUID, attempt_id: UUID, atoms: int) -> None:
    """Count a refund's amount as gone; the schema refuses more than is left."""
    await tx.execute(
        "UPDATE attempt SET refunded_atoms = refunded_atoms + $3"
        " WHERE tenant_id = $1 AND attempt_id = $2",
        tenant_id,
        attempt_id,
        Decimal(atoms),
    )


async def correct_refunded(tx: Connection, tenant_id: UUID, attempt_id: UUID, atoms: int) -> None:
    """A refund failed, below zero, or went through after it was given up: what is gone changes.

    In the second case others may have taken its place, and no more than all can be counted gone.
    """
    await tx.execute(
        "UPDATE attempt SET refunded_atoms = greatest(0, least(refunded_atoms + $3,"
        " coalesce(captured_atoms, 0) - disputed_atoms))"
        " WHERE tenant_id = $1 AND attempt_id = $2",
        tenant_id,
        attempt_id,
        Decimal(atoms),
    )


# --- operations -----------------------------------------------------------------------------------


async def insert_operation(
    tx: Connection, tenant_id: UUID, operation: Operation, fingerprint: bytes
) -> None:
    await tx.execute(
        "INSERT INTO operation (tenant_id, operation_id, kind, target_id, provider_account_id,"
        " idempotency_key, reference, fingerprint, state, lease_until, tries, start_time,"
        " sent_time) VALUES ($1, $2, $12, $3, $4, $5, $6, $7, 'OPEN', $8, $9, $10, $11)",
        tenant_id,
        operation.operation_id,
        operation.target_id,
        operation.provider_account_id,
        operation.key,
        operation.reference,
        fingerprint,
        operation.asking.ask_time,
        operation.tries,
        operation.asking.start_time,
        operation.asking.sent_time,
        operation.kind.value,
    )


async def list_due(
    connection: Connection, now: datetime, count_max: int
) -> list[tuple[UUID, UUID]]:
    """(tenant, operation) of what nobody holds and is due, of every tenant, longest due first."""
    rows = await connection.fetch("SELECT * FROM operations_due($1, $2)", now, count_max)
    return [(row["tenant_id"], row["operation_id"]) for row in rows]


async def count_unknown(connection: Connection) -> tuple[int, datetime | None]:
    row = await connection.fetchrow("SELECT * FROM operations_unknown()")
    return (row["number"], row["oldest"]) if row else (0, None)


async def lease_operation(
    tx: Connection, tenant_id: UUID, operation_id: UUID, now: datetime, lease: timedelta
) -> Operation | None:
    """Take a due operation for a while; None where another has taken it or it is done."""
    row = await tx.fetchrow(
        "UPDATE operation SET lease_until = $4, tries = tries + 1"
        " WHERE tenant_id = $1 AND operation_id = $2 AND state = 'OPEN' AND lease_until <= $3"
        " RETURNING" + _COLUMNS,
        tenant_id,
        operation_id,
        now,
        now + lease,
    )
    return _operation(row) if row else None


async def put_off(tx: Connection, tenant_id: UUID, operation_id: UUID, until: datetime) -> None:
    """Leave an open operation alone for a while."""
    await tx.execute(
        "UPDATE operation SET lease_until = $3"
        " WHERE tenant_id = $1 AND operation_id = $2 AND state = 'OPEN'",
        tenant_id,
        operation_id,
        until,
    )


async def lock_operation(tx: Connection, tenant_id: UUID, target_id: UUID) -> Operation:
    """The operation that charges an attempt, or the one that sends a refund."""
    row = await tx.fetchrow(
        _SELECT_OPERATION
        + " WHERE tenant_id = $1 AND target_id = $2 AND kind IN ('CHARGE', 'REFUND') FOR UPDATE",
        tenant_id,
        target_id,
    )
    return _operation(row)


async def find_charge(tx: Connection, tenant_id: UUID, attempt_id: UUID) -> Operation:
    """The operation that charges an attempt, for what it noted; nobody is made to wait."""
    row = await tx.fetchrow(
        _SELECT_OPERATION + " WHERE tenant_id = $1 AND target_id = $2 AND kind = 'CHARGE'",
        tenant_id,
        attempt_id,
    )
    return _operation(row)


async def lock_order(tx: Connection, tenant_id: UUID, operation_id: UUID) -> Operation:
    """A capture or cancellation."""
    row = await tx.fetchrow(
        _SELECT_OPERATION + " WHERE tenant_id = $1 AND operation_id = $2 FOR UPDATE",
        tenant_id,
        operation_id,
    )
    return _operation(row)


async def find_last_order(tx: Connection, tenant_id: UUID, attempt_id: UUID) -> Operation | None:
    """The latest capture or cancellation of an attempt, open or not."""
    row = await tx.fetchrow(
        _SELECT_OPERATION + " WHERE tenant_id = $1 AND target_id = $2"
        " AND kind IN ('CAPTURE', 'CANCEL') ORDER BY operation_id DESC LIMIT 1",
        tenant_id,
        attempt_id,
    )
    return _operation(row) if row else None


async def has_open_order(tx: Connection, tenant_id: UUID, attempt_id: UUID) -> bool:
    """Whether a capture or cancellation of an attempt is still open."""
    order = await find_last_order(tx, tenant_id, attempt_id)
    return order is not None and not order.done


async def close_orders(tx: Connection, tenant_id: UUID, attempt_id: UUID) -> None:
    """An attempt ended: what its captures and cancellations came to is known with it."""
    await tx.execute(
        "UPDATE operation SET state = 'DONE', unknown_since = NULL WHERE tenant_id = $1"
        " AND target_id = $2 AND kind IN ('CAPTURE', 'CANCEL') AND state = 'OPEN'",
        tenant_id,
        attempt_id,
    )


async def save_order(tx: Connection, tenant_id: UUID, operation: Operation) -> None:
    """What the provider made of a capture or cancellation."""
    await tx.execute(
        "UPDATE operation SET acknowledged = $3, rejection = $4"
        " WHERE tenant_id = $1 AND operation_id = $2",
        tenant_id,
        operation.operation_id,
        operation.acknowledged,
        operation.rejection,
    )


async def save_operation(
    tx: Connection, tenant_id: UUID, operation_id: UUID, asking: Asking, *, done: bool
) -> None:
    await tx.execute(
        "UPDATE operation SET state = $3, lease_until = $4, asks = $5, unknown_since = $6,"
        " empty_find_time = $7, handed_over = $8 WHERE tenant_id = $1 AND operation_id = $2",
        tenant_id,
        operation_id,
        "DONE" if done else "OPEN",
        asking.ask_time,
        asking.asks,
        None if done else asking.unknown_since,
        asking.empty_find_time,
        asking.handed_over,
    )


async def save_sending(
    tx: Connection, tenant_id: UUID, operation_id: UUID, asking: Asking, lease: timedelta
) -> None:
    """Before a request with effect leaves; nobody else takes it up while it is on its way."""
    await tx.execute(
        "UPDATE operation SET sent_time = $3, empty_find_time = $4, lease_until = $5"
        " WHERE tenant_id = $1 AND operation_id = $2",
        tenant_id,
        operation_id,
        asking.sent_time,
        asking.empty_find_time,
        asking.sent_time + lease,
    )


async def save_note(
    tx: Connection, tenant_id: UUID, operation_id: UUID, name: str, value: str
) -> None:
    await tx.execute(
        "UPDATE operation SET notes = notes || jsonb_build_object($3::text, $4::text)"
        " WHERE tenant_id = $1 AND operation_id = $2",
        tenant_id,
        operation_id,
        name,
        value,
    )


# --- evidence -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line of what is known about an attempt, or about a refund of it."""

    attempt_id: UUID
    witness: Witness
    finding: Finding
    before: str
    after: str
    detail: str = ""
    alerts: Sequence[str] = ()
    refund_id: UUID | None = None


async def append_evidence(
    tx: Connection, tenant_id: UUID, evidence: Evidence, now: datetime
) -> None:
    await tx.execute(
        "INSERT INTO evidence (tenant_id, evidence_id, attempt_id, witness, finding, from_state,"
        " to_state, alerts, detail, create_time, refund_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        tenant_id,
        new_id(now),
        evidence.attempt_id,
        evidence.witness.value,
        evidence.finding.value,
        evidence.before,
        evidence.after,
        list(evidence.alerts),
        evidence.detail[:500],
        now,
        evidence.refund_id,
    )


async def append_calls(
    tx: Connection,
    tenant_id: UUID,
    operation_id: UUID,
    calls: Sequence[CallRecord],
    now: datetime,
) -> None:
    await tx.executemany(
        "INSERT INTO provider_call (tenant_id, provider_call_id, operation_id, method, path,"
        " request_digest, status, answer_digest, provider_request_id, silence, duration_ms,"
        " create_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        [
            (
                tenant_id,
                new_id(now),
                operation_id,
                call.method,
                call.path,
                call.request_digest,
                call.status,
                call.answer_digest,
                call.provider_request_id,
                call.silence,
                call.duration_ms,
                now,
            )
            for call in calls
        ],
    )


def _attempt(row: Any) -> Attempt:
    stated = None
    if row["stated_asset"] is not None:
        code = row["stated_asset"]
        stated = Amount(Asset(code, MINOR_DIGITS[code]), int(row["stated_atoms"]))
    action = None
    if row["action_url"]:
        action = NextAction(row["action_url"], row["action_expire_time"])
    return Attempt(
        attempt_id=row["attempt_id"],
        payment_id=row["payment_id"],
        number=row["number"],
        provider_account_id=row["provider_account_id"],
        provider_account=row["code"],
        payment_method_id=row["payment_method_id"],
        amount=Amount(Asset(row["asset"], row["minor_digits"]), int(row["atoms"])),
        state=State(row["state"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
        provider_payment_id=row["provider_payment_id"],
        stated=stated,
        decline_code=row["decline_code"],
        decline_class=DeclineClass(row["decline_class"]) if row["decline_class"] else None,
        action=action,
        told=frozenset(State(state) for state in row["told"]),
        capture_later=row["capture_later"],
        capture_amount=_of(row, "capture_atoms"),
        captured=_of(row, "captured_atoms"),
        refunded_atoms=int(row["refunded_atoms"]),
        disputed_atoms=int(row["disputed_atoms"]),
    )


def _of(row: Any, column: str) -> Amount | None:
    """An amount in the payment's own currency."""
    atoms = row[column]
    return None if atoms is None else Amount(Asset(row["asset"], row["minor_digits"]), int(atoms))


def _operation(row: Any) -> Operation:
    return Operation(
        operation_id=row["operation_id"],
        target_id=row["target_id"],
        provider_account_id=row["provider_account_id"],
        key=row["idempotency_key"],
        reference=row["reference"],
        notes=json.loads(row["notes"]),
        kind=Kind(row["kind"]),
        tries=row["tries"],
        done=row["state"] == "DONE",
        acknowledged=row["acknowledged"],
        rejection=row["rejection"],
        asking=Asking(
            start_time=row["start_time"],
            sent_time=row["sent_time"],
            ask_time=row["lease_until"],
            asks=row["asks"],
            unknown_since=row["unknown_since"],
            empty_find_time=row["empty_find_time"],
            handed_over=row["handed_over"],
        ),
    )
