"""Subscriptions as messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from chassis.wire import find_time, parse_count, parse_member, parse_time, render_time
from invoicing.catalog.wire import parse_trial
from invoicing.customers.wire import parse_customer_id
from invoicing.subscriptions.domain.lifecycle import CancelWhen, terms_of
from invoicing.subscriptions.domain.options import (
    AnchorChange,
    Options,
    Proration,
    UsageChange,
    When,
)
from invoicing.subscriptions.domain.proration import Basis
from invoicing.subscriptions.domain.renewal import LOCKED_FOREVER, RateSource, Renewal, RenewalMode
from invoicing.subscriptions.domain.subscription import (
    AnchorMode,
    Ending,
    PausedUsage,
    Pausing,
    Subscription,
    SubscriptionState,
    Term,
    Unused,
)
from invoicing.subscriptions.operations import AddOnWish, PhaseWish, Target, Wish
from invoicing.wire import parse_code, parse_interval, render_interval
from kernel.currency import currency
from kernel.errors import InvalidValue
from kernel.money import format_decimal, parse_decimal
from tollgate.invoicing.v1 import subscription_pb2 as pb

VERSION_MAX = 2**31 - 1
SEATS_MAX = Decimal(1_000_000_000)  # more seats than there are people who could sit on them
PHASES_MAX = 50
ADD_ONS_MAX = 50
NOTICE_DAYS_MAX = 366

ANCHOR_MODES = {
    pb.ANCHOR_MODE_UNSPECIFIED: AnchorMode.ANNIVERSARY,
    pb.ANCHOR_MODE_ANNIVERSARY: AnchorMode.ANNIVERSARY,
    pb.ANCHOR_MODE_CALENDAR: AnchorMode.CALENDAR,
}
STATES = {
    state: pb.SubscriptionState.Value(f"SUBSCRIPTION_STATE_{state.value}")
    for state in SubscriptionState
}
BASES = {
    pb.PRORATION_BASIS_UNSPECIFIED: Basis.ACTUAL_SECONDS,
    pb.PRORATION_BASIS_ACTUAL_SECONDS: Basis.ACTUAL_SECONDS,
    pb.PRORATION_BASIS_ACTUAL_DAYS: Basis.ACTUAL_DAYS,
    pb.PRORATION_BASIS_ACTUAL_OVER_30: Basis.ACTUAL_OVER_30,
    pb.PRORATION_BASIS_THIRTY_360: Basis.THIRTY_360,
    pb.PRORATION_BASIS_NONE: Basis.NONE,
}
WHENS = {
    pb.CHANGE_WHEN_UNSPECIFIED: When.IMMEDIATE,
    pb.CHANGE_WHEN_IMMEDIATE: When.IMMEDIATE,
    pb.CHANGE_WHEN_PERIOD_END: When.PERIOD_END,
    pb.CHANGE_WHEN_AT_TIME: When.AT_TIME,
}
PRORATIONS = {
    pb.CHANGE_PRORATION_UNSPECIFIED: Proration.NEXT_INVOICE,
    pb.CHANGE_PRORATION_NEXT_INVOICE: Proration.NEXT_INVOICE,
    pb.CHANGE_PRORATION_INVOICE_NOW: Proration.INVOICE_NOW,
    pb.CHANGE_PRORATION_NONE: Proration.NONE,
    pb.CHANGE_PRORATION_FULL_CHARGE: Proration.FULL_CHARGE,
}
ANCHORS = {
    pb.CHANGE_ANCHOR_UNSPECIFIED: AnchorChange.KEEP,
    pb.CHANGE_ANCHOR_KEEP: AnchorChange.KEEP,
    pb.CHANGE_ANCHOR_RESET: AnchorChange.RESET,
}
USAGES = {
    pb.CHANGE_USAGE_UNSPECIFIED: UsageChange.SPLIT,
    pb.CHANGE_USAGE_SPLIT: UsageChange.SPLIT,
    pb.CHANGE_USAGE_OLD_UNTIL_PERIOD_END: UsageChange.OLD_UNTIL_PERIOD_END,
}
UNUSED = {
    pb.UNUSED_SHARE_UNSPECIFIED: Unused.BILLED_SHARE,
    pb.UNUSED_SHARE_BILLED: Unused.BILLED_SHARE,
    pb.UNUSED_SHARE_LIST: Unused.LIST_SHARE,
    pb.UNUSED_SHARE_NONE: Unused.NONE,
}
CANCEL_WHENS = {
    pb.CANCEL_WHEN_IMMEDIATE: CancelWhen.IMMEDIATE,
    pb.CANCEL_WHEN_PERIOD_END: CancelWhen.PERIOD_END,
    pb.CANCEL_WHEN_TERM_END: CancelWhen.TERM_END,
    pb.CANCEL_WHEN_AT_TIME: CancelWhen.AT_TIME,
}
PAUSED_USAGES = {
    pb.PAUSED_USAGE_UNSPECIFIED: PausedUsage.REFUSE,
    pb.PAUSED_USAGE_REFUSE: PausedUsage.REFUSE,
    pb.PAUSED_USAGE_BILL: PausedUsage.BILL,
    pb.PAUSED_USAGE_FREE: PausedUsage.FREE,
}
RENEWAL_MODES = {
    pb.RENEWAL_MODE_UNSPECIFIED: RenewalMode.AUTO,
    pb.RENEWAL_MODE_AUTO: RenewalMode.AUTO,
    pb.RENEWAL_MODE_NONE: RenewalMode.NONE,
    pb.RENEWAL_MODE_AUTO_UNTIL: RenewalMode.AUTO_UNTIL,
}
RATE_SOURCES = {
    pb.RATE_SOURCE_UNSPECIFIED: RateSource.LOCKED,
    pb.RATE_SOURCE_LOCKED: RateSource.LOCKED,
    pb.RATE_SOURCE_CURRENT: RateSource.CURRENT,
}
RENDERED_BASES = {basis: number for number, basis in BASES.items() if number}
RENDERED_RENEWAL_MODES = {mode: number for number, mode in RENEWAL_MODES.items() if number}
RENDERED_RATE_SOURCES = {source: number for number, source in RATE_SOURCES.items() if number}


def parse_wish(request: pb.CreateSubscriptionRequest) -> Wish:
    if len(request.phases) > PHASES_MAX:
        raise InvalidValue("phases", f"takes at most {PHASES_MAX}")
    return Wish(
        customer_id=parse_customer_id(request.customer_id),
        plan_code=parse_code(request.plan_code, "plan_code"),
        plan_version=_parse_version(request.plan_version, "plan_version"),
        quantities=_parse_quantities(request.items, "items"),
        start_time=find_time(request, "start_time"),
        anchor_mode=parse_member(request.anchor_mode, ANCHOR_MODES, "anchor_mode"),
        currency=currency(request.currency, "currency").code if request.currency else "",
        basis=parse_member(request.proration_basis, BASES, "proration_basis"),
        trial=parse_trial(request.trial, "trial") if request.HasField("trial") else None,
        without_trial=request.without_trial,
        phases=tuple(
            _parse_phase(phase, f"phases[{index}]") for index, phase in enumerate(request.phases)
        ),
        renewal=(
            parse_renewal(request.renewal, "renewal")
            if request.HasField("renewal")
            else LOCKED_FOREVER
        ),
        add_ons=_parse_add_ons(request.add_ons, "add_ons"),
    )


def _parse_version(version: int, field: str) -> int:
    return parse_count(version, field, minimum=0, maximum=VERSION_MAX)


def _parse_phase(message: pb.SubscriptionPhase, field: str) -> PhaseWish:
    try:
        start = parse_time(message, "start_time")
    except InvalidValue as refusal:
        raise refusal.inside(field) from None
    return PhaseWish(
        start_time=start,
        plan_code=parse_code(message.plan_code, f"{field}.plan_code") if message.plan_code else "",
        plan_version=_parse_version(message.plan_version, f"{field}.plan_version"),
        quantities=_parse_quantities(message.items, f"{field}.items"),
    )


def parse_renewal(message: pb.Renewal, field: str) -> Renewal:
    if not message.HasField("term"):
        raise InvalidValue(f"{field}.term", "is needed")
    return terms_of(
        Renewal(
            mode=parse_member(message.mode, RENEWAL_MODES, f"{field}.mode"),
            every=parse_interval(message.term, f"{field}.term"),
            until=find_time(message, "until_time"),
            notice_days=parse_count(
                message.notice_days, f"{field}.notice_days", minimum=0, maximum=NOTICE_DAYS_MAX
            ),
            uplift_percent=parse_decimal(
                message.uplift_percent or "0", f"{field}.uplift_percent", signed=True
            ),
            rate_source=parse_member(message.rate_source, RATE_SOURCES, f"{field}.rate_source"),
        )
    )


def parse_target(message: pb.SubscriptionTarget) -> Target:
    return Target(
        plan_code=parse_code(message.plan_code, "target.plan_code") if message.plan_code else "",
        plan_version=_parse_version(message.plan_version, "target.plan_version"),
        quantities=_parse_quantities(message.items, "target.items") or None,
        add_ons=_parse_add_ons(message.add_ons, "target.add_ons"),
    )


def _parse_add_ons(messages: Sequence[pb.AddOnChange], field: str) -> tuple[AddOnWish, ...]:
    if len(messages) > ADD_ONS_MAX:
        raise InvalidValue(field, f"takes at most {ADD_ONS_MAX}")
    found: dict[str, AddOnWish] = {}
    for index, message in enumerate(messages):
        here = f"{field}[{index}]"
        code = parse_code(message.plan_code, f"{here}.plan_code")
        if code in found:
            raise InvalidValue(f"{here}.plan_code", f"{code!r} is there twice")
        version = _parse_version(message.plan_version, f"{here}.plan_version")
        found[code] = AddOnWish(code, version, _parse_quantity(message.quantity, here))
    return tuple(found.values())


def parse_options(message: pb.ChangeOptions) -> Options:
    return Options(
        when=parse_member(message.when, WHENS, "options.when"),
        is_when_stated=bool(message.when),
        at=find_time(message, "at_time"),
        proration=parse_member(message.proration, PRORATIONS, "options.proration"),
        anchor=parse_member(message.anchor, ANCHORS, "options.anchor"),
        usage=parse_member(message.usage, USAGES, "options.usage"),
        unused=parse_member(message.deduction, UNUSED, "options.deduction"),
        drops_scheduled=message.drops_scheduled,
    )


def parse_ending(request: pb.CancelSubscriptionRequest) -> Ending:
    return Ending(
        unused=parse_member(request.unused, UNUSED, "unused"),
        waives_usage=request.waives_usage,
        skips_invoice=request.skips_final_invoice,
        bills_last_day=not request.last_day_free,
    )


def parse_cancel_when(request: pb.CancelSubscriptionRequest) -> CancelWhen:
    if request.when:
        return parse_member(request.when, CANCEL_WHENS, "when")
    return CancelWhen.IMMEDIATE if request.immediately else CancelWhen.PERIOD_END


def parse_pausing(request: pb.PauseSubscriptionRequest) -> Pausing:
    if request.keeps_billing and request.extends_period:
        raise InvalidValue("extends_period", "a period that is billed on is not extended")
    return Pausing(
        keeps_billing=request.keeps_billing,
        usage=parse_member(request.usage, PAUSED_USAGES, "usage"),
        extends_period=request.extends_period,
    )


def _parse_quantities(items: Sequence[pb.SubscriptionItem], field: str) -> dict[str, Decimal]:
    quantities: dict[str, Decimal] = {}
    for index, item in enumerate(items):
        code = parse_code(item.price_code, f"{field}[{index}].price_code")
        if code in quantities:
            raise InvalidValue(f"{field}[{index}].price_code", f"{code!r} is there twice")
        quantities[code] = _parse_quantity(item.quantity, f"{field}[{index}]")
    return quantities


def _parse_quantity(text: str, field: str) -> Decimal:
    quantity = parse_decimal(text or "1", f"{field}.quantity")
    if quantity > SEATS_MAX:
        raise InvalidValue(f"{field}.quantity", f"is above {SEATS_MAX}")
    return quantity


def render_subscription(subscription: Subscription, now: datetime) -> pb.Subscription:
    """A subscription as it is at an instant: its plan and the items in force, or those to come."""
    term = subscription.latest_term(now) if subscription.terms else None
    message = pb.Subscription(
        subscription_id=str(subscription.subscription_id),
        customer_id=subscription.customer_id,
        plan_code=term.plan_code if term else subscription.plan_code,
        plan_version=term.plan_version if term else subscription.plan_version,
        items=_render_items(subscription, now),
        start_time=render_time(subscription.start_time),
        anchor_time=render_time(term.anchor if term else subscription.anchor_time),
        time_zone=subscription.time_zone,
        state=STATES[subscription.state(now)],
        create_time=render_time(subscription.create_time),
        currency=subscription.currency,
        proration_basis=RENDERED_BASES[subscription.basis],
        end_reason=subscription.end_reason,
        terms=[_render_term(one) for one in subscription.terms if one.end != one.start],
        revision=subscription.revision,
        renewal=_render_renewal(subscription.renewal),
    )
    for name, instant in (
        ("end_time", subscription.end_time),
        ("trial_end_time", subscription.trial_end_time),
        ("pause_time", subscription.pause_time),
        ("resume_time", subscription.resume_time),
        ("next_bill_time", subscription.next_bill_time),
    ):
        if instant is not None:
            getattr(message, name).CopyFrom(render_time(instant))
    return message


def _render_items(subscription: Subscription, now: datetime) -> list[pb.SubscriptionItem]:
    """Of each price what is in force, or else what comes next of it; of what is over nothing."""
    at = max(now, subscription.start_time)
    shown = []
    seen: set[tuple[str, str]] = set()
    for item in sorted(subscription.items, key=subscription.starts):
        key = (item.plan_code, item.price.code)
        over = item.end is not None and (item.end <= at or item.end == subscription.starts(item))
        if over or key in seen:
            continue
        seen.add(key)
        shown.append(item)
    return [
        pb.SubscriptionItem(
            subscription_item_id=str(item.subscription_item_id),
            price_code=item.price.code,
            quantity=format_decimal(item.quantity),
        )
        for item in subscription.items
        if item in shown
    ]


def _render_term(term: Term) -> pb.SubscriptionTerm:
    message = pb.SubscriptionTerm(
        plan_code=term.plan_code,
        plan_version=term.plan_version,
        is_add_on=term.is_add_on,
        quantity=format_decimal(term.quantity) if term.is_add_on else "",
        seats=[
            pb.SubscriptionItem(price_code=code, quantity=format_decimal(quantity))
            for code, quantity in term.seats.items()
        ],
        start_time=render_time(term.start),
        anchor_time=render_time(term.anchor),
        interval=render_interval(term.every),
    )
    if term.end is not None:
        message.end_time.CopyFrom(render_time(term.end))
    return message


def _render_renewal(renewal: Renewal) -> pb.Renewal | None:
    if renewal.every is None:
        return None
    message = pb.Renewal(
        term=render_interval(renewal.every),
        mode=RENDERED_RENEWAL_MODES[renewal.mode],
        notice_days=renewal.notice_days,
        uplift_percent=format_decimal(renewal.uplift_percent),
        rate_source=RENDERED_RATE_SOURCES[renewal.rate_source],
    )
    if renewal.until is not None:
        message.until_time.CopyFrom(render_time(renewal.until))
    if renewal.term_end is not None:
        message.term_end_time.CopyFrom(render_time(renewal.term_end))
    return message
