"""What became of an event, told from its record or from what is stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from metering.charging.domain import charge_of
from metering.events.domain.decision import Record
from metering.events.domain.event import Charge, EventState, Outcome, StoredEvent
from metering.settlement.domain import ChargeAnswer
from metering.usage.domain import UsageName


def outcome_of_record(record: Record, answers: Mapping[UUID, ChargeAnswer] | None) -> Outcome:
    """The outcome of an event that was just stored; without answers its charge is pending."""
    event_id = record.match.event.event_id
    if not record.is_charged:
        return Outcome(event_id, EventState.ACCEPTED, record.charges(), None, False)
    if answers is None:
        return Outcome(event_id, EventState.PENDING, record.charges(), None, False)
    answer = answers[record.receipt_id]
    if answer.refusal is not None:
        return Outcome(event_id, EventState.REJECTED, [], answer.refusal, False)
    posted = [
        p for line, p in zip(record.lines, answer.lines, strict=True) if line.running.from_wallet
    ]
    charges = [
        charge
        if part is None
        else charge._replace(shortfall=part.shortfall, available=part.available)
        for charge, part in zip(record.charges(), posted, strict=True)
    ]
    return Outcome(event_id, EventState.ACCEPTED, charges, None, False)


def outcome_of_stored(
    each: StoredEvent, usages: Mapping[tuple[str, int], UsageName], is_pending: bool
) -> Outcome:
    """The outcome of a stored event. `usages` are by customer and number; `is_pending` says that
    its batch is not settled."""
    event_id = each.event.event_id
    if each.state is EventState.REJECTED:
        return Outcome(event_id, EventState.REJECTED, [], each.refusal, False)
    charges = []
    for number, line in enumerate(each.lines, 1):
        of = usages[each.event.customer_id, line.number]
        if of.from_wallet:
            charges.append(
                Charge(
                    charge_of(each.receipt_id, number) if line.atoms else None,
                    of.price_id,
                    of.subscription_item_id,
                    of.meter,
                    line.quantity,
                    of.asset,
                    of.scale,
                    line.atoms,
                    line.shortfall,
                    "",
                )
            )
    held = each.event.authorization_id is not None
    waits = is_pending and (held or any(line.atoms for line in each.lines))
    state = EventState.PENDING if waits else EventState.ACCEPTED
    return Outcome(event_id, state, charges, None, False)
