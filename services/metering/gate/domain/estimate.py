"""What usage would cost if it ran now: priced at the margin, open authorizations counted in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from kernel.errors import Refusal
from kernel.money import RoundingMode, round_to_atoms
from metering.charging.domain import (
    ChargeRefused,
    InsufficientFunds,
    Refused,
    SpendCapReached,
    refused,
)
from metering.events.domain.decision import INVOICE_SCALE, begin_running
from metering.events.domain.event import CustomerUnknown
from metering.events.domain.matching import (
    PricedMeasure,
    UsageKey,
    check_priced,
    price_measure,
)
from metering.gate.domain.authorization import Reservation
from metering.meters.domain import Meter, MeterSet
from metering.ratecards.domain import RateCard
from metering.usage.domain import Running, text_of
from rating.exact import Number


class Estimate(NamedTuple):
    """Usage that is expected, in the form of the event that will report it."""

    name: str
    properties: Mapping[str, str]


class Measured(NamedTuple):
    """An estimate as meters and prices see it."""

    counted: list[tuple[Meter, Number]]
    priced: list[PricedMeasure]  # none where it is not offered


class PricedEstimate(NamedTuple):
    """What one price would ask."""

    measure: PricedMeasure
    asset: str
    scale: int
    atoms: int
    reservation: Reservation | None


@dataclass(slots=True)
class Needed:
    """Funds that one authorization needs in one asset."""

    scale: int
    atoms: int = 0
    meters: set[str] = field(default_factory=set)
    products: set[str] = field(default_factory=set)

    @property
    def meter(self) -> str:
        """The meter they are for; empty where there are several: restricted wallets refuse."""
        return next(iter(self.meters)) if len(self.meters) == 1 else ""

    @property
    def product(self) -> str:
        """The plan they are for; empty where there are several."""
        return next(iter(self.products)) if len(self.products) == 1 else ""


def measure_estimate(
    estimate: Estimate,
    now: datetime,
    meters: MeterSet,
    card: RateCard,
    scales: Mapping[str, int],
    place: str,
) -> Measured:
    """What meters would count, and the customer's prices that the usage would fall under.

    Raises PropertyUnusable, UnpricedUsage, AssetUnknown.
    """
    measured = Measured([], [])
    for meter in meters.counting.get(estimate.name, ()):
        if meter.is_selective and not meter.reads(estimate.properties, now, place):
            continue
        value = meter.value(estimate.properties, place)
        measured.counted.append((meter, value))
        for entry in card.entries.get(meter.code, ()):
            if entry.applies(estimate.properties, now):
                check_priced(entry, estimate.properties, scales, place)
                measured.priced.append(price_measure(entry, meter, value, card.customer_id, now))
    return measured


def is_marginal(measure: PricedMeasure) -> bool:
    """Whether what it costs depends on what was used before."""
    return not measure.entry.pricing.is_linear or not measure.meter.is_simple


class Margins:
    """Running usage and open reservations, as one batch of estimates sees them.

    Estimates of a batch see each other: what one reserves, the next is priced after.
    """

    def __init__(
        self,
        runnings: Mapping[UsageKey, Running],
        reserved: Mapping[UsageKey, tuple[Number, int]],
        scales: Mapping[str, int],
    ) -> None:
        self._runnings = dict(runnings)
        self._reserved = dict(reserved)
        self._scales = scales

    def price(
        self,
        customer_id: str,
        measures: Iterable[PricedMeasure],
        properties: Mapping[str, str],
        now: datetime,
    ) -> list[PricedEstimate]:
        """What the measures of one estimate would cost, and what they reserve of tiers."""
        return [self._price(customer_id, measure, properties, now) for measure in measures]

    def forget(self, priced: Iterable[PricedEstimate]) -> None:
        """Take back what an estimate reserved, where it is asked anew for less."""
        for each in priced:
            if each.reservation is not None:
                quantity, held = self._reserved[each.measure.key]
                left = (quantity - each.measure.value, held - each.atoms)
                self._reserved[each.measure.key] = left

    def affordable(
        self,
        customer_id: str,
        measure: PricedMeasure,
        properties: Mapping[str, str],
        now: datetime,
        atoms: int,
    ) -> Number | None:
        """The most whole units of a measure that cost no more than so many atoms, whatever the
        measure's own value is; None where there is no end."""
        pricing = measure.entry.pricing
        scale = self._scales.get(pricing.price.asset, INVOICE_SCALE)
        if not is_marginal(measure):
            unit = pricing.unit_cost() * 10**scale
            return None if unit <= 0 else atoms // unit
        running = self._running(customer_id, measure, scale)
        quantity, held = self._reserved.get(measure.key, (0, 0))
        return running.affordable(atoms, properties, now, quantity, held)

    def _running(self, customer_id: str, measure: PricedMeasure, scale: int) -> Running:
        running = self._runnings.get(measure.key)
        if running is None:
            running = begin_running(0, customer_id, measure, scale)
            self._runnings[measure.key] = running
        return running

    def _price(
        self,
        customer_id: str,
        measure: PricedMeasure,
        properties: Mapping[str, str],
        now: datetime,
    ) -> PricedEstimate:
        pricing = measure.entry.pricing
        asset = pricing.price.asset
        scale = self._scales.get(asset, INVOICE_SCALE)
        if not is_marginal(measure):
            exact = pricing.unit_cost() * measure.value
            atoms = round_to_atoms(exact, scale, RoundingMode.UP)
            return PricedEstimate(measure, asset, scale, atoms, None)
        key = measure.key
        running = self._running(customer_id, measure, scale)
        quantity, held = self._reserved.get(key, (0, 0))
        atoms = running.margin(measure.value, properties, now, quantity, held, measure.meter)
        if not running.is_plain or not running.adds_up:
            return PricedEstimate(measure, asset, running.scale, atoms, None)
        self._reserved[key] = (quantity + measure.value, held + atoms)
        reservation = Reservation(key[1], key[2], key[3], text_of(measure.value), atoms)
        return PricedEstimate(measure, asset, running.scale, atoms, reservation)


def funds_of(priced: Iterable[PricedEstimate]) -> dict[str, Needed]:
    """What has to be set aside, by asset; usage that is billed on the invoice needs nothing."""
    needed: dict[str, Needed] = {}
    for each in priced:
        if not each.measure.entry.from_wallet or not each.atoms:
            continue
        part = needed.setdefault(each.asset, Needed(each.scale))
        part.atoms += each.atoms
        part.meters.add(each.measure.entry.meter)
        part.products.add(each.measure.entry.plan_code)
    return needed


class CustomerSuspended(Refusal):
    """The customer's usage is suspended."""

    reason = "CUSTOMER_SUSPENDED"

    def __init__(self, customer_id: str) -> None:
        super().__init__(f"usage of {customer_id!r} is suspended", customer_id=customer_id)


class NotEntitled(Refusal):
    """The customer's plan does not grant it. Facts: feature, or the event's name."""

    reason = "NOT_ENTITLED"

    def __init__(self, customer_id: str, **what: str) -> None:
        told = " and ".join(f"{kind} {name!r}" for kind, name in what.items())
        super().__init__(f"{customer_id!r} is not granted {told}", customer_id=customer_id, **what)


def entitlement_faults(card: RateCard | None, customer_id: str, feature: str) -> list[Refused]:
    """Why the customer may not use anything, or not this feature; empty where it may."""
    if card is None:
        return [refused(CustomerUnknown("customer_id", customer_id))]
    faults = []
    if card.suspended:
        faults.append(refused(CustomerSuspended(customer_id)))
    if feature and feature not in card.features:
        faults.append(refused(NotEntitled(customer_id, feature=feature)))
    return faults


def not_offered(customer_id: str, event_name: str) -> Refused:
    """No price of the customer's covers such usage."""
    return refused(NotEntitled(customer_id, event=event_name))


def short_of_funds(cause: Refused, asset: str, needed: str) -> Refused:
    """The wallet's no to a hold, as a reason of the gate's."""
    if cause.reason == "SPEND_CAP_REACHED":
        return refused(SpendCapReached(cause))
    if cause.reason in ("INSUFFICIENT_FUNDS", "NO_WALLET"):
        available = cause.facts.get("available", "0")
        return refused(InsufficientFunds(asset, available, needed))
    return refused(ChargeRefused(cause))
