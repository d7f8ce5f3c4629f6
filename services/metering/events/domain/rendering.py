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
        return Outcome(event_id, EventState.ACCEPTED, _charges(record, None), None, False)
    if answers is None:
        return Outcome(event_id, EventState.PENDING, _charges(record, None), None, False)
    answer = answers[record.receipt_id]
    if answer.refusal is not None:
        return Outcome(event_id, EventState.REJECTED, [], answer.refusal, False)
    return Outcome(event_id, EventState.ACCEPTED, _charges(record, answer), None, False)


def _charges(record: Record, answer: ChargeAnswer | None) -> list[Charge]:
    """What an event costs, one charge per price that is settled from wallets."""
    charges = []
    for place, line in enumerate(record.lines):
        running = line.running
        if not running.from_wallet:
            continue
        posted = answer.lines[place] if answer is not None else None
        charges.append(
            Charge(
                charge_of(record.receipt_id, place + 1) if line.atoms else "",
                running.price_id,
                running.subscription_item_id,
                running.meter,
                line.quantity,
                running.asset,
                running.scale,
                line.atoms,
                posted.shortfall if posted is not None else 0,
                posted.available if posted is not None else "",
            )
        )
    return charges


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
                    charge_of(each.receipt_id, number) if line.atoms else "",
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
