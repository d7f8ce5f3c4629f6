"""Grants on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from chassis.wire import find_time, parse_asset_code, parse_member, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms, format_decimal, parse_decimal
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import ledger_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.ledger.domain.items import GrantItem
from wallet.ledger.domain.outcomes import Granted, Outcome, Refused
from wallet.ledger.domain.values import NEVER, GrantKind
from wallet.ledger.wire import (
    fingerprint_of,
    parse_id,
    parse_item_amount,
    parse_key,
    parse_reference,
    render_refusal,
    unexpected,
)
from wallet.wallets.wire import parse_priority, parse_restrictions, render_restrictions

KINDS = {int(kind): kind for kind in GrantKind}


def parse_grant(
    item: pb.GrantItem, tenant_id: str, scales: Mapping[str, int], now: datetime | None
) -> GrantItem:
    """Raises InvalidValue naming the field."""
    request_id = parse_key(item.request_id)
    asset, scale, atoms = parse_item_amount(item.amount, scales)
    effective, expire = find_time(item, "effective_time"), find_time(item, "expire_time")
    if effective is not None and expire is not None and expire <= effective:
        raise InvalidValue("expire_time", "is not after effective_time")
    basis = parse_decimal(item.cost_basis, "cost_basis") if item.cost_basis else Decimal(0)
    if basis and not item.cost_asset:
        raise InvalidValue("cost_asset", "is required with cost_basis")
    return GrantItem(
        tenant_id,
        request_id,
        fingerprint_of(b"G", item),
        now,
        parse_id(item.wallet_id, "wallet_id"),
        asset,
        scale,
        atoms,
        int(parse_member(item.kind, KINDS, "kind")),
        parse_priority(item.priority if item.HasField("priority") else None),
        effective,
        expire,
        parse_restrictions(item.restrictions),
        basis,
        parse_asset_code(item.cost_asset, "cost_asset") if item.cost_asset else "",
        parse_reference(item.source, "source"),
    )


def render_granted(outcome: Outcome) -> pb.GrantOutcome:
    if isinstance(outcome, Granted):
        return pb.GrantOutcome(grant=render_grant(outcome, 0), replayed=outcome.replayed)
    if isinstance(outcome, Refused):
        return pb.GrantOutcome(refusal=render_refusal(outcome), replayed=outcome.replayed)
    raise unexpected(outcome)


def render_grant(grant: Granted, held: int) -> ledger_pb2.Grant:
    scale = grant.scale
    return ledger_pb2.Grant(
        grant_id=grant.grant_id,
        wallet_id=grant.wallet_id,
        amount=amount_pb2.Amount(asset=grant.asset, value=format_atoms(grant.atoms, scale)),
        remaining=format_atoms(grant.remaining, scale),
        held=format_atoms(held, scale),
        kind=ledger_pb2.GrantKind.ValueType(grant.kind),
        priority=grant.priority,
        effective_time=render_time(grant.effective_time),
        expire_time=None if grant.expire_time == NEVER else render_time(grant.expire_time),
        restrictions=render_restrictions(grant.restrictions),
        cost_basis=format_decimal(grant.cost_basis),
        cost_asset=grant.cost_asset,
        source=grant.source,
        create_time=render_time(grant.create_time),
    )
