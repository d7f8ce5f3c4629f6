"""Holds on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from kernel.errors import InvalidValue
from kernel.money import format_atoms
from tollgate.wallet.v1 import ledger_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.ledger.domain.items import CaptureItem, HoldItem, IncreaseItem, VoidItem
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
    parse_node,
    parse_over_capture,
    parse_purpose,
    parse_reference,
    parse_value,
    render_refusal,
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
        _parse_time_to_live(item) or HOLD_TIME_DEFAULT,
        item.partial_allowed,
        parse_reference(item.reference),
        parse_node(item.node),
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


def parse_increase(
    item: pb.IncreaseItem, tenant_id: str, places: Mapping[str, Place], now: datetime | None
) -> IncreaseItem:
    """Raises InvalidValue naming the field. Where no such hold is known, the value is not read."""
    request_id = parse_key(item.request_id)
    hold_id = parse_id(item.hold_id, "hold_id")
    time_to_live = _parse_time_to_live(item)
    place = places.get(hold_id)
    atoms = 0
    if place is not None:
        longer = time_to_live is not None
        value = item.value or "0" if longer else item.value
        atoms = parse_value(value, place.scale, "value", zero_allowed=longer)
    return IncreaseItem(
        tenant_id,
        request_id,
        fingerprint_of(b"I", item),
        now,
        hold_id,
        place.customer_id if place else "",
        place.asset if place else "",
        place.scale if place else None,
        atoms,
        time_to_live,
        item.partial_allowed,
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


def _parse_time_to_live(item: pb.HoldItem | pb.IncreaseItem) -> timedelta | None:
    if not item.HasField("time_to_live"):
        return None
    duration = item.time_to_live
    if abs(duration.seconds) <= _SECONDS_MAX and abs(duration.nanos) < 10**9:
        time_to_live = timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
        if HOLD_TIME_MIN <= time_to_live <= HOLD_TIME_MAX:
            return time_to_live
    raise InvalidValue("time_to_live", "is not between 1 second and 7 days")


def fill_held(answer: pb.HoldOutcome, outcome: Outcome) -> None:
    """Write an outcome into its place in the answer."""
    if isinstance(outcome, Held):
        fill_hold(answer.hold, outcome)
        answer.available = format_atoms(outcome.available, outcome.scale)
    elif isinstance(outcome, Refused):
        answer.refusal.CopyFrom(render_refusal(outcome))
    else:
        raise unexpected(outcome)
    if outcome.replayed:
        answer.replayed = True


def fill_hold(message: ledger_pb2.Hold, hold: Held) -> None:
    """Write a hold into its place."""
    scale = hold.scale
    message.hold_id = hold.hold_id
    message.customer_id = hold.customer_id
    amount = message.amount
    amount.asset = hold.asset
    amount.value = value = format_atoms(hold.atoms, scale)
    message.captured = format_atoms(hold.captured, scale) if hold.captured else "0"
    message.state = ledger_pb2.HoldState.ValueType(int(hold.state))
    message.expire_time.FromDatetime(hold.expire_time)
    message.reference = hold.reference
    for wallet_id, atoms, number in hold.shares:
        share = message.shares.add()
        share.wallet_id = wallet_id
        share.value = value if atoms == hold.atoms else format_atoms(atoms, scale)
        share.sequence = number
    message.create_time.FromDatetime(hold.create_time)
