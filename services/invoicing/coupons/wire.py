"""Coupons as messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from chassis.wire import find_time, parse_member, parse_text, render_amount, render_time
from invoicing.coupons.domain import Coupon, Duration, HeldCoupon
from invoicing.payments.wire import parse_money
from invoicing.wire import parse_code
from kernel.errors import InvalidValue
from kernel.money import format_atoms, format_decimal, parse_decimal
from tollgate.invoicing.v1 import coupon_pb2 as pb

CODES_MAX = 200
DOCUMENTS_MAX = 1_000
REDEMPTIONS_MAX = 2**53

DURATIONS = {
    pb.COUPON_DURATION_UNSPECIFIED: Duration.ONCE,
    pb.COUPON_DURATION_ONCE: Duration.ONCE,
    pb.COUPON_DURATION_REPEATING: Duration.REPEATING,
    pb.COUPON_DURATION_FOREVER: Duration.FOREVER,
}
RENDERED_DURATIONS = {duration: number for number, duration in DURATIONS.items() if number}


def parse_coupon(message: pb.Coupon, now: datetime) -> Coupon:
    duration = parse_member(message.duration, DURATIONS, "coupon.duration")
    repeats = duration is Duration.REPEATING
    if repeats and not 1 <= message.documents <= DOCUMENTS_MAX:
        raise InvalidValue("coupon.documents", f"takes 1 to {DOCUMENTS_MAX} with REPEATING")
    if not repeats and message.documents:
        raise InvalidValue("coupon.documents", "is stated with REPEATING alone")
    off = message.WhichOneof("off")
    if off is None:
        raise InvalidValue("coupon.off", "takes a rate or an amount")
    if not 0 <= message.redemptions_max <= REDEMPTIONS_MAX:
        raise InvalidValue("coupon.redemptions_max", "is not a count")
    if message.keep_unused and (duration is not Duration.ONCE or off != "amount"):
        raise InvalidValue("coupon.keep_unused", "is for an amount, ONCE")
    return Coupon(
        code=parse_code(message.code, "coupon.code"),
        name=parse_text(message.name, "coupon.name"),
        rate=_parse_rate(message.rate) if off == "rate" else None,
        amount=parse_money(message.amount, "coupon.amount") if off == "amount" else None,
        duration=duration,
        documents=message.documents,
        plan_codes=_parse_codes(message.plan_codes, "coupon.plan_codes"),
        price_codes=_parse_codes(message.price_codes, "coupon.price_codes"),
        redemptions_max=message.redemptions_max or None,
        redemptions=0,
        end_time=find_time(message, "end_time"),
        keep_unused=message.keep_unused,
        archived=False,
        create_time=now,
    )


def _parse_rate(text: str) -> Decimal:
    rate = parse_decimal(text, "coupon.rate")
    if not 0 < rate <= 1:
        raise InvalidValue("coupon.rate", f'{text} is not above 0 and up to 1; "0.1" is a tenth')
    return rate


def _parse_codes(codes: Sequence[str], field: str) -> tuple[str, ...]:
    if len(codes) > CODES_MAX:
        raise InvalidValue(field, f"takes at most {CODES_MAX} codes")
    return tuple(parse_code(code, f"{field}[{index}]") for index, code in enumerate(codes))


def render_coupon(coupon: Coupon) -> pb.Coupon:
    message = pb.Coupon(
        code=coupon.code,
        name=coupon.name,
        duration=RENDERED_DURATIONS[coupon.duration],
        documents=coupon.documents,
        plan_codes=coupon.plan_codes,
        price_codes=coupon.price_codes,
        redemptions_max=coupon.redemptions_max or 0,
        keep_unused=coupon.keep_unused,
        redemptions=coupon.redemptions,
        archived=coupon.archived,
        create_time=render_time(coupon.create_time),
    )
    if coupon.rate is not None:
        message.rate = format_decimal(coupon.rate)
    if coupon.amount is not None:
        message.amount.CopyFrom(render_amount(coupon.amount))
    if coupon.end_time is not None:
        message.end_time.CopyFrom(render_time(coupon.end_time))
    return message


def render_held(held: HeldCoupon, customer_id: str, scale: int) -> pb.CustomerCoupon:
    """`scale` is that of the customer's currency."""
    return pb.CustomerCoupon(
        customer_id=customer_id,
        coupon=render_coupon(held.coupon),
        used=held.used,
        given=format_atoms(held.given, scale),
        attach_time=render_time(held.attach_time),
    )
