"""Backfills between protobuf and the domain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from chassis.wire import parse_member, parse_text, parse_time, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms
from kernel.period import Period
from metering.backfills.domain import (
    CUSTOMERS_MAX,
    INTERVAL_MAX,
    Backfill,
    Fed,
    FedState,
    Mode,
    State,
)
from metering.charging.domain import Refused
from metering.corrections.domain.revision import REASON_MAX
from metering.events.domain.event import BatchTooLarge
from metering.events.wire import ID_MAX, render_refusal
from metering.rehearsals.domain import Effect
from tollgate.metering.v1 import backfill_pb2
from tollgate.type.v1 import amount_pb2

MODES = {
    backfill_pb2.BACKFILL_MODE_ADD: Mode.ADD,
    backfill_pb2.BACKFILL_MODE_REPLACE: Mode.REPLACE,
}
STATES = {
    State.OPEN: backfill_pb2.BACKFILL_STATE_OPEN,
    State.CLOSING: backfill_pb2.BACKFILL_STATE_CLOSING,
    State.CLOSED: backfill_pb2.BACKFILL_STATE_CLOSED,
    State.REVERTING: backfill_pb2.BACKFILL_STATE_REVERTING,
    State.REVERTED: backfill_pb2.BACKFILL_STATE_REVERTED,
}


def parse_backfill(
    request: backfill_pb2.CreateBackfillRequest, backfill_id: UUID, caller: str, now: datetime
) -> Backfill:
    """A backfill to open; raises InvalidValue naming the field."""
    if not request.HasField("interval"):
        raise InvalidValue("interval", "is required")
    try:
        interval = Period(
            parse_time(request.interval, "start_time"), parse_time(request.interval, "end_time")
        )
    except InvalidValue as error:
        raise error.inside("interval") from None
    if interval.end - interval.start > INTERVAL_MAX:
        raise InvalidValue("interval", f"is longer than {INTERVAL_MAX.days} days")
    if not request.customer_ids:
        raise InvalidValue("customer_ids", "is required; takes 1 to 1000 customers")
    if len(request.customer_ids) > CUSTOMERS_MAX:
        raise BatchTooLarge("customer_ids", CUSTOMERS_MAX, len(request.customer_ids))
    customers = {
        parse_text(customer_id, f"customer_ids[{index}]", maximum=ID_MAX)
        for index, customer_id in enumerate(request.customer_ids)
    }
    return Backfill(
        backfill_id,
        parse_member(request.mode, MODES, "mode"),
        interval,
        sorted(customers),
        parse_text(request.reason, "reason", maximum=REASON_MAX),
        caller,
        State.OPEN,
        has_replaced=False,
        create_time=now,
    )


def render_backfill(backfill: Backfill, counts: Mapping[FedState, int]) -> backfill_pb2.Backfill:
    """A backfill with how far it is."""
    modes = {mode: value for value, mode in MODES.items()}
    return backfill_pb2.Backfill(
        backfill_id=str(backfill.backfill_id),
        mode=modes[backfill.mode],
        interval=amount_pb2.Interval(
            start_time=render_time(backfill.interval.start),
            end_time=render_time(backfill.interval.end),
        ),
        customer_ids=backfill.customer_ids,
        reason=backfill.reason,
        state=STATES[backfill.state],
        events=sum(counts.values()),
        added=counts.get(FedState.ADDED, 0),
        amended=counts.get(FedState.AMENDED, 0),
        unchanged=counts.get(FedState.UNCHANGED, 0),
        refused=counts.get(FedState.REFUSED, 0),
        create_time=render_time(backfill.create_time),
    )


def render_fed(event_id: str, refusal: Refused | None) -> backfill_pb2.FeedOutcome:
    """Whether one event was taken."""
    outcome = backfill_pb2.FeedOutcome(event_id=event_id)
    if refusal is not None:
        outcome.refusal.CopyFrom(render_refusal(refusal))
    return outcome


def render_fault(fed: Fed) -> backfill_pb2.FeedOutcome:
    """An event that could not be applied."""
    return render_fed(fed.event.event_id, fed.refusal)


def render_effect(effect: Effect) -> backfill_pb2.BackfillEffect:
    """What would change for one customer."""
    return backfill_pb2.BackfillEffect(
        customer_id=effect.customer_id,
        added=effect.added,
        amended=effect.amended,
        deprecated=effect.deprecated,
        refused=effect.refused,
        usage=[
            backfill_pb2.UsageChange(meter=one.meter, before=one.before, after=one.after)
            for one in effect.usage
        ],
        costs=[
            backfill_pb2.CostChange(
                before=amount_pb2.Amount(
                    asset=one.asset, value=format_atoms(one.before, one.scale)
                ),
                after=amount_pb2.Amount(asset=one.asset, value=format_atoms(one.after, one.scale)),
                from_wallet=one.from_wallet,
            )
            for one in effect.costs
        ],
    )
