"""What a usage cost before an event and after it, and which tiers lie between."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from metering.meters.domain import Meter
from metering.usage.domain import Running
from rating import Component, State, exact, rate
from rating.exact import Number


class Counted(NamedTuple):
    """A meter that counted an event."""

    meter: Meter
    hour: datetime
    dimension_values: str


class Payment(NamedTuple):
    """One wallet's part of a debit; amounts are decimal strings."""

    charge_id: str
    transfer_id: str
    asset: str
    value: str
    returned: str
    grants: dict[str, str]


class BilledLine(NamedTuple):
    """A line of a document that bills a period."""

    invoice_id: str
    number: str
    description: str
    asset: str
    amount: str


class PricedLine(NamedTuple):
    """One price's part in an event."""

    running: Running
    quantity: str
    before: Number | None  # usage of the period before it, where the total decides the cost
    components: list[Component]
    atoms: int
    payments: list[Payment]
    billed: list[BilledLine]


def tiers_between(running: Running, before: Number, quantity: Number) -> list[Component]:
    """The parts of the cost that a quantity adds after others: what each tier has more of."""
    price, share = running.pricing.price, running.stretch.share
    then = rate(price, State(quantity=before, event_count=0, share=share)).components
    now = rate(price, State(quantity=before + quantity, event_count=1, share=share)).components
    earlier = {(one.name, one.group, one.over): one for one in then}
    added = []
    for part in now:
        was = earlier.pop((part.name, part.group, part.over), None)
        if was is None:
            added.append(part)
            continue
        more = part.amount - was.amount
        units = None
        if part.quantity is not None and was.quantity is not None:
            units = exact(part.quantity - was.quantity)
        if more or units:
            added.append(
                Component(
                    part.name,
                    exact(more),
                    units,
                    part.unit_price,
                    part.over,
                    part.up_to,
                    part.group,
                )
            )
    # A volume price leaves its tier as a whole.
    added += [one.mirrored() for one in earlier.values()]
    return [one for one in added if one.amount or one.quantity]
