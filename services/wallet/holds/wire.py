"""Holds on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from chassis.wire import render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import ledger_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.ledger.domain.items import CaptureItem, HoldItem, VoidItem
from wallet.ledger.domain.outcomes import Held, Outcome, Refused
from wallet.ledger.domain.values import HOLD_TIME_DEFAULT, HOLD_TIME_MAX, HOLD_TIME_MIN
from wallet.ledger.store import Place
from wallet.ledger.wire import (
    find_id,
    fingerprint_of,
    parse_customer,
    parse_id,
    parse_item_amount,
    parse_key,
    parse_over_capture,
    parse_purpose,
    parse_reference,
    parse_value,
    render_refusal,
    render_shares,
    unexpected,
)

_SECONDS_MAX = int(HOLD_TIME_MAX.total_seconds())


def parse_hold(
    item: pb.HoldItem, tenant_id: str, scales: Mapping[str, int], now: datetime | None
) -> HoldItem:
    """Raises InvalidValue naming the field."""
    request_id = parse_key(item.request_id)
    asset, scale, atoms = parse_item_amount(item.amount, scales)
    return HoldItem(
        tenant_id,
        request_id,
        fingerprint_of(b"H", item),
        now,
        find_id(item.hold_id, "hold_id"),
        parse_customer(item.customer_id),
        find_id(item.wallet_id, "wallet_id"),
        asset,
        scale,
        atoms,
        parse_purpose(item.purpose),
        _parse_time_to_live(item),
        item.partial_allowed,
        parse_reference(item.reference),
    )


def parse_capture(
    item: pb.CaptureItem, tenant_id: str, places: Mapping[str, Place], now: datetime | None
) -> CaptureItem:
    """Raises InvalidValue naming the field. Where no such hold is known, the value is not read."""
    request_id = parse_key(item.request_id)
    hold_id = parse_id(item.hold_id, "hold_id")
    place = places.get(hold_id)
    atoms = 0
    if place is not None:
        atoms = parse_value(item.value, place.scale, "value", zero_allowed=item.final)
    return CaptureItem(
        tenant_id,
        request_id,
        fingerprint_of(b"C", item),
        now,
        hold_id,
        place.customer_id if place else "",
        place.asset if place else "",
        place.scale if place else None,
        atoms,
        item.final,
        parse_over_capture(item.over_capture),
        parse_reference(item.reference),
    )


def parse_void(
    item: pb.VoidItem, tenant_id: str, places: Mapping[str, Place], now: datetime | None
) -> VoidItem:
    """Raises InvalidValue naming the field."""
    hold_id = parse_id(item.hold_id, "hold_id")
    place = places.get(hold_id) or Place("", "", 0)
    return VoidItem(
        tenant_id,
        parse_key(item.request_id),
        fingerprint_of(b"V", item),
        now,
        hold_id,
        place.customer_id,
        place.asset,
        place.scale,
    )


def _parse_time_to_live(item: pb.HoldItem) -> timedelta:
    if not item.HasField("time_to_live"):
        return HOLD_TIME_DEFAULT
    duration = item.time_to_live
    if abs(duration.seconds) <= _SECONDS_MAX and abs(duration.nanos) < 10**9:
        time_to_live = timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
        if HOLD_TIME_MIN <= time_to_live <= HOLD_TIME_MAX:
            return time_to_live
    raise InvalidValue("time_to_live", "is not between 1 second and 7 days")


def render_held(outcome: Outcome) -> pb.HoldOutcome:
    if isinstance(outcome, Held):
        return pb.HoldOutcome(
            hold=render_hold(outcome),
            replayed=outcome.replayed,
            available=format_atoms(outcome.available, outcome.scale),
        )
    if isinstance(outcome, Refused):
        return pb.HoldOutcome(refusal=render_refusal(outcome), replayed=outcome.replayed)
    raise unexpected(outcome)


def render_hold(hold: Held) -> ledger_pb2.Hold:
    return ledger_pb2.Hold(
        hold_id=hold.hold_id,
        customer_id=hold.customer_id,
        amount=amount_pb2.Amount(asset=hold.asset, value=format_atoms(hold.atoms, hold.scale)),
        captured=format_atoms(hold.captured, hold.scale),
        state=ledger_pb2.HoldState.ValueType(int(hold.state)),
        expire_time=render_time(hold.expire_time),
        reference=hold.reference,
        shares=render_shares(hold.shares, hold.scale),
        create_time=render_time(hold.create_time),
    )
