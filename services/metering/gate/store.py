"""Authorizations in Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from asyncpg import Record as Row

from chassis.database import Connection, Database
from metering.charging.domain import OverUse, Refused
from metering.events.domain.matching import UsageKey
from metering.gate.domain.authorization import (
    Authorization,
    AuthorizationState,
    Granted,
    Hold,
    Reservation,
    Standing,
)
from metering.limits.domain import WindowKey
from metering.limits.store import LimitsMoved, guard_columns

_KEEP = f"SELECT keep_answers({', '.join(f'${n}' for n in range(1, 22))}) AS request_id"


class Reserved(NamedTuple):
    """What open authorizations may still add to the tiers of a price."""

    quantity: str
    atoms: int


async def list_by_id(
    tx: Connection, tenant_id: UUID, ids: Iterable[UUID], *, lock: bool = False
) -> dict[UUID, Authorization]:
    """Authorizations by id; with `lock`, nobody else ends them until the transaction is over."""
    rows = await tx.fetch(
        "SELECT * FROM usage_authorization"
        " WHERE tenant_id = $1 AND authorization_id = ANY($2::uuid[])"
        " ORDER BY authorization_id" + (" FOR UPDATE" if lock else ""),
        tenant_id,
        list(ids),
    )
    return {row["authorization_id"]: _authorization(row) for row in rows}


async def list_by_request(
    tx: Connection, tenant_id: UUID, request_ids: Iterable[str]
) -> dict[str, Authorization]:
    """What was answered to these requests before."""
    rows = await tx.fetch(
        "SELECT * FROM usage_authorization WHERE tenant_id = $1 AND request_id = ANY($2::text[])",
        tenant_id,
        list(request_ids),
    )
    return {row["request_id"]: _authorization(row) for row in rows}


class Reading(NamedTuple):
    """What a batch of the gate reads."""

    meter_version: int
    figures: dict[UsageKey, Row]
    reserved: dict[UsageKey, Reserved]


async def read_gate(
    database: Database,
    tenant_id: UUID,
    customer_ids: Iterable[str],
    keys: Sequence[UsageKey],
    now: datetime,
) -> Reading:
    """The version of the meters, running usage by key, and what is reserved: one trip."""
    customers, items, prices, starts = zip(*keys, strict=True) if keys else ((), (), (), ())
    rows = await database.fetch_once(
        "SELECT * FROM read_gate($1, $2, $3, $4, $5, $6, $7)",
        tenant_id, now, list(customer_ids), customers, items, prices, starts,
    )  # fmt: skip
    version = 0
    figures: dict[UsageKey, Row] = {}
    reserved: dict[UsageKey, Reserved] = {}
    for row in rows:
        match row["kind"]:
            case 0:
                version = row["number"]
            case 1:
                figures[keys[row["position"] - 1]] = row
            case _:
                key = (row["customer_id"], row["item"], row["price_id"], row["period_start"])
                reserved[key] = Reserved(row["quantity"], int(row["asked"]))
    return Reading(version, figures, reserved)


async def keep(
    database: Database,
    tenant_id: UUID,
    authorizations: Sequence[Authorization],
    guards: Sequence[tuple[str, int]],
    windows: Sequence[tuple[WindowKey, datetime]],
) -> set[str]:
    """Keep answers, in one trip; returns the request ids that nobody had answered before.

    Raises LimitsMoved where the guards of limits are not as they were read: nothing is kept then.
    """
    columns = zip(*(_row(each) for each in authorizations), strict=True)
    try:
        rows = await database.fetch_once(
            _KEEP, tenant_id, *columns, *guard_columns(guards, windows)
        )
    except asyncpg.SerializationError as error:
        raise LimitsMoved from error
    return {row["request_id"] for row in rows}


async def save_reserved(
    tx: Connection, tenant_id: UUID, authorizations: Sequence[Authorization]
) -> None:
    """Change what authorizations set aside of tiers and limits; the caller has locked them."""
    await tx.execute(
        "UPDATE usage_authorization AS a SET reserved = v.reserved, measured = v.measured"
        " FROM unnest($2::uuid[], $3::jsonb[], $4::jsonb[]) AS v (id, reserved, measured)"
        " WHERE a.tenant_id = $1 AND a.authorization_id = v.id",
        tenant_id,
        [each.authorization_id for each in authorizations],
        [_reserved(each) for each in authorizations],
        [_measured(each) for each in authorizations],
    )


async def save_change(tx: Connection, tenant_id: UUID, authorization: Authorization) -> None:
    """Write what an extension or increase changed; the caller has locked it."""
    await tx.execute(
        "UPDATE usage_authorization SET holds = $3, reserved = $4, measured = $5, details = $6,"
        " expire_time = $7 WHERE tenant_id = $1 AND authorization_id = $2",
        tenant_id,
        authorization.authorization_id,
        _holds(authorization),
        _reserved(authorization),
        _measured(authorization),
        _details(authorization),
        authorization.expire_time,
    )


async def save_state(
    tx: Connection, tenant_id: UUID, ids: Iterable[UUID], state: AuthorizationState
) -> None:
    """Change the state of authorizations that the caller has locked."""
    await tx.execute(
        "UPDATE usage_authorization SET state = $3"
        " WHERE tenant_id = $1 AND authorization_id = ANY($2::uuid[])",
        tenant_id,
        list(ids),
        state.value,
    )


async def expire_due(tx: Connection, tenant_id: UUID, now: datetime, count_max: int) -> int:
    """Mark open authorizations whose time is over; returns how many."""
    status = await tx.execute(
        "UPDATE usage_authorization SET state = 4 WHERE tenant_id = $1 AND authorization_id IN ("
        " SELECT authorization_id FROM usage_authorization"
        " WHERE tenant_id = $1 AND state = 1 AND expire_time <= $2"
        " ORDER BY expire_time LIMIT $3 FOR UPDATE SKIP LOCKED)",
        tenant_id,
        now,
        count_max,
    )
    return int(status.rpartition(" ")[2])


async def list_tenants_with_overdue(
    connection: Connection, instant: datetime, count_max: int
) -> list[UUID]:
    """Tenants with open authorizations whose time was over by an instant."""
    rows = await connection.fetch(
        "SELECT tenant_id FROM list_tenants_with_overdue($1, $2)", instant, count_max
    )
    return [row["tenant_id"] for row in rows]


def _row(each: Authorization) -> tuple[object, ...]:
    reasons = [list(reason) for reason in each.reasons]
    return (
        each.authorization_id,
        each.request_id,
        each.fingerprint,
        each.customer_id,
        each.feature,
        each.state.value,
        each.over_use.value,
        _holds(each),
        _reserved(each),
        json.dumps(reasons) if each.state is AuthorizationState.DENIED else None,
        each.create_time,
        each.expire_time,
        _details(each),
        _measured(each),
    )


def _holds(each: Authorization) -> str:
    return json.dumps([list(hold) for hold in each.holds])


def _reserved(each: Authorization) -> str:
    return json.dumps(
        [
            [part.subscription_item_id, part.price_id, part.period_start.isoformat(), *part[3:]]
            for part in each.reserved
        ]
    )


def _measured(each: Authorization) -> str:
    if not each.measured:
        return "[]"
    return json.dumps([list(part) for part in each.measured])


def _details(each: Authorization) -> str:
    """What most answers have nothing of is left out."""
    details: dict[str, object] = {}
    if each.node:
        details["node"] = each.node
    if each.granted is not None:
        details["granted"] = [each.granted.name, dict(each.granted.properties)]
    if each.is_final:
        details["final"] = True
    if each.standings:
        details["standings"] = [
            [*standing[:-1], standing.reset_time and standing.reset_time.isoformat()]
            for standing in each.standings
        ]
    return json.dumps(details, ensure_ascii=False) if details else "{}"


def _standing(values: list[Any]) -> Standing:
    reset = values.pop()
    return Standing._make([*values, None if reset is None else datetime.fromisoformat(reset)])


def _authorization(row: Row) -> Authorization:
    reasons = json.loads(row["reasons"]) if row["reasons"] else []
    details = json.loads(row["details"])
    return Authorization(
        authorization_id=row["authorization_id"],
        request_id=row["request_id"],
        fingerprint=bytes(row["fingerprint"]),
        customer_id=row["customer_id"],
        feature=row["feature"],
        state=AuthorizationState(row["state"]),
        over_use=OverUse(row["over_use"]),
        holds=tuple(Hold(*hold) for hold in json.loads(row["holds"])),
        reserved=tuple(
            Reservation(item, price, datetime.fromisoformat(start), quantity, atoms)
            for item, price, start, quantity, atoms in json.loads(row["reserved"])
        ),
        reasons=tuple(Refused(*reason) for reason in reasons),
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        node=details.get("node", ""),
        granted=Granted(*details["granted"]) if "granted" in details else None,
        is_final=details.get("final", False),
        standings=tuple(_standing(values) for values in details.get("standings", ())),
        measured=tuple((meter, value) for meter, value in json.loads(row["measured"])),
    )
