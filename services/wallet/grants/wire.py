"""Grants on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from chassis.call import Call
from chassis.wire import find_time, parse_asset_code, parse_member, parse_text, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms, format_decimal, parse_decimal
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import ledger_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.ledger.domain.answers import Voided
from wallet.ledger.domain.details import Rollover
from wallet.ledger.domain.items import ChangeExpiryItem, GrantItem, VoidGrantItem
from wallet.ledger.domain.outcomes import Granted, Outcome, Refused
from wallet.ledger.domain.values import NEVER, GrantKind
from wallet.ledger.wire import (
    fingerprint_of,
    parse_id,
    parse_item_amount,
    parse_key,
    parse_keyed,
    parse_reference,
    parse_value,
    render_refusal,
    unexpected,
)
from wallet.wallets.wire import parse_priority, parse_restrictions, render_restrictions

# The kinds that are asked for; the others are made by operations of their own.
KINDS = {
    int(kind): kind
    for kind in GrantKind
    if kind not in (GrantKind.CORRECTION, GrantKind.CONVERSION)
}
MODES = {0: False, 1: False, 2: True}  # whether what a voided grant paid for is replayed
ROLLOVER_SECONDS_MAX = 100 * 366 * 86_400


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
        _find_rollover(item, scale),
    )


def _find_rollover(item: pb.GrantItem, scale: int | None) -> Rollover | None:
    if not item.HasField("rollover"):
        return None
    message = item.rollover
    fraction = (
        parse_decimal(message.fraction, "rollover.fraction") if message.fraction else Decimal(1)
    )
    if not 0 < fraction <= 1:
        raise InvalidValue("rollover.fraction", "is not above 0 and at most 1")
    cap = parse_value(message.cap, scale or 0, "rollover.cap") if message.cap else None
    if not message.HasField("time_to_live"):
        return Rollover(fraction, cap, None)
    seconds = message.time_to_live.seconds
    if message.time_to_live.nanos or not 1 <= seconds <= ROLLOVER_SECONDS_MAX:
        raise InvalidValue(
            "rollover.time_to_live", "is not 1 second to 100 years, in whole seconds"
        )
    return Rollover(fraction, cap, seconds)


def parse_void_grant(
    request: pb.VoidGrantRequest, call: Call, asset: str, scale: int | None
) -> VoidGrantItem:
    """Raises InvalidValue naming the field."""
    if request.mode not in MODES:
        raise InvalidValue("mode", f"{request.mode} is not known")
    return VoidGrantItem(
        *parse_keyed(request, b"VG", call),
        parse_id(request.wallet_id, "wallet_id"),
        asset,
        scale,
        parse_text(request.reason, "reason"),
        "",
        call.caller,
        parse_id(request.grant_id, "grant_id"),
        MODES[request.mode],
    )


def parse_expiry(
    request: pb.ChangeGrantExpiryRequest, call: Call, asset: str, scale: int | None
) -> ChangeExpiryItem:
    """Raises InvalidValue naming the field."""
    return ChangeExpiryItem(
        *parse_keyed(request, b"CE", call),
        parse_id(request.wallet_id, "wallet_id"),
        asset,
        scale,
        parse_text(request.reason, "reason"),
        "",
        call.caller,
        parse_id(request.grant_id, "grant_id"),
        find_time(request, "expire_time") or NEVER,
    )


def render_voided(outcome: Outcome) -> pb.VoidGrantResponse:
    if not isinstance(outcome, Voided):
        raise unexpected(outcome)
    asset, scale = outcome.asset, outcome.scale
    return pb.VoidGrantResponse(
        grant_id=outcome.grant_id,
        unused=amount_pb2.Amount(asset=asset, value=format_atoms(outcome.unused, scale)),
        replayed_amount=amount_pb2.Amount(
            asset=asset, value=format_atoms(outcome.replayed_atoms, scale)
        ),
        replayed_on=render_parts(outcome.replayed_on, scale),
        void_time=render_time(outcome.void_time),
        replayed=outcome.replayed,
    )


def render_parts(parts: Sequence[tuple[str, int]], scale: int) -> list[ledger_pb2.GrantShare]:
    """Grants' parts in something."""
    return [
        ledger_pb2.GrantShare(grant_id=grant_id, value=format_atoms(atoms, scale))
        for grant_id, atoms in parts
    ]


def render_granted(outcome: Outcome) -> pb.GrantOutcome:
    if isinstance(outcome, Granted):
        return pb.GrantOutcome(grant=render_grant(outcome, outcome.held), replayed=outcome.replayed)
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
        rollover=_render_rollover(grant.rollover, scale),
        rolled_from=grant.rolled_from,
        void_time=None if grant.void_time is None else render_time(grant.void_time),
    )


def _render_rollover(rollover: Rollover | None, scale: int) -> ledger_pb2.Rollover | None:
    if rollover is None:
        return None
    message = ledger_pb2.Rollover(
        fraction=format_decimal(rollover.fraction),
        cap="" if rollover.cap is None else format_atoms(rollover.cap, scale),
    )
    if rollover.seconds is not None:
        message.time_to_live.seconds = rollover.seconds
    return message
