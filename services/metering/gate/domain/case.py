"""One request to the gate on its way to its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from chassis.call import Call
from kernel.errors import InvalidValue, Refusal
from kernel.ids import new_id
from kernel.money import parse_atoms
from metering.aggregates.domain.tally import ADDS_UP, Aggregation
from metering.charging.domain import AssetUnknown, OverUse, Refused, refused
from metering.gate.domain.authorization import (
    Authorization,
    AuthorizationState,
    Granted,
    Hold,
    Reservation,
)
from metering.gate.domain.authorization import Standing as Told
from metering.gate.domain.estimate import (
    Estimate,
    Margins,
    Measured,
    Needed,
    PricedEstimate,
    entitlement_faults,
    funds_of,
    measure_estimate,
    not_offered,
)
from metering.limits.domain import LimitBook, LimitReached, Standing, added_up, text_of
from metering.meters.domain import MeterSet
from metering.ratecards.domain import RateCard
from rating.exact import parse_number


class Maximum(NamedTuple):
    """An amount, for callers that price for themselves."""

    asset: str
    value: str


class Ask(NamedTuple):
    """One request to the gate."""

    request_id: str
    fingerprint: bytes
    customer_id: str
    feature: str
    estimate: Estimate | None
    maximum: Maximum | None
    time_to_live: timedelta
    over_use: OverUse
    call: Call
    node: str = ""
    partial: bool = False
    quantity_property: str = ""


class Case:
    """A request with what it was found to need, and what it got."""

    def __init__(self, ask: Ask, card: RateCard | None) -> None:
        self.ask = ask
        self.card = card
        self.authorization_id: UUID = new_id(datetime.now(UTC))
        self.reasons: list[Refused] = []
        self.estimate = ask.estimate
        self.measured = Measured([], [])
        self.priced: list[PricedEstimate] = []
        self.needed: dict[str, Needed] = {}
        self.holds: dict[str, Hold] = {}
        self.standings: list[Standing] = []
        self.quantity_property = ""

    @property
    def is_reduced(self) -> bool:
        """Whether less is granted than was asked."""
        return self.estimate != self.ask.estimate

    @property
    def reserved(self) -> list[Reservation]:
        return [each.reservation for each in self.priced if each.reservation and each.atoms]

    @property
    def limited(self) -> dict[str, str]:
        """What it sets aside of limits, by meter."""
        limits = self.card.limits if self.card is not None else {}
        if not limits:
            return {}
        return {
            meter.code: text_of(value)
            for meter, value in added_up(self.measured.counted)
            if meter.code in limits and meter.aggregation in ADDS_UP
        }

    @property
    def is_final(self) -> bool:
        """Whether this is the last quota: less than was asked, or nothing left after it."""
        return (
            self.is_reduced
            or any(hold.available == "0" for hold in self.holds.values())
            or any(s.limit.is_hard and s.left == s.needed for s in self.standings)
        )

    def measure(self, meters: MeterSet, scales: Mapping[str, int]) -> None:
        """Find what the estimate counts for. Raises what makes the request itself faulty."""
        if self.estimate is None or self.card is None:
            return
        self.measured = measure_estimate(
            self.estimate, self.ask.call.now, meters, self.card, scales, "estimate"
        )

    def fit_limits(self, book: LimitBook, meters: MeterSet, scales: Mapping[str, int]) -> None:
        """Deny what does not fit the customer's limits, or reduce it where a part will do."""
        card, now = self.card, self.ask.call.now
        if card is None or not card.limits or self.reasons:
            return
        customer_id = self.ask.customer_id
        self.standings = book.standings(customer_id, card.limits, self.measured.counted, now)
        failing = _failing(self.standings)
        if failing and self._reduce_to_limits(failing, meters, scales):
            self.standings = book.standings(customer_id, card.limits, self.measured.counted, now)
            failing = _failing(self.standings)
        if failing:
            self.reasons += [refused(LimitReached(standing)) for standing in failing]
            return
        book.set_aside(customer_id, self.measured.counted)

    def _reduce_to_limits(
        self, failing: Sequence[Standing], meters: MeterSet, scales: Mapping[str, int]
    ) -> bool:
        if not self.ask.partial:
            return False
        scaled = {
            meter.code
            for meter, _ in self.measured.counted
            if meter.value_property == self.quantity_property
        }
        if any(standing.limit.meter not in scaled for standing in failing):
            return False
        whole = min(int(standing.left // 1) for standing in failing)
        if whole < 1:
            return False
        self.reduce(whole, meters, scales)
        return True

    def reduce(self, quantity: int, meters: MeterSet, scales: Mapping[str, int]) -> None:
        """Ask for less of the one quantity."""
        assert self.estimate is not None
        properties = {**self.estimate.properties, self.quantity_property: str(quantity)}
        self.estimate = self.estimate._replace(properties=properties)
        self.measure(meters, scales)

    def price(self, margins: Margins) -> None:
        """Find what it needs to have set aside."""
        if self.estimate is None:
            return
        self.priced = margins.price(
            self.ask.customer_id,
            self.measured.priced,
            self.estimate.properties,
            self.ask.call.now,
        )
        self.needed = funds_of(self.priced)

    def answer(self) -> Authorization:
        denied = bool(self.reasons)
        estimate = self.estimate
        return Authorization(
            authorization_id=self.authorization_id,
            request_id=self.ask.request_id,
            fingerprint=self.ask.fingerprint,
            customer_id=self.ask.customer_id,
            feature=self.ask.feature,
            state=AuthorizationState.DENIED if denied else AuthorizationState.OPEN,
            over_use=self.ask.over_use,
            holds=() if denied else tuple(self.holds.values()),
            reserved=() if denied else tuple(self.reserved),
            reasons=tuple(self.reasons),
            create_time=self.ask.call.now,
            expire_time=self.ask.call.now + self.ask.time_to_live,
            node=self.ask.node,
            granted=None if denied or estimate is None else Granted(*estimate),
            is_final=not denied and self.is_final,
            standings=() if denied else tuple(told(each) for each in self.standings),
            measured=() if denied else tuple(self.limited.items()),
        )


def open_case(
    ask: Ask, cards: Mapping[str, RateCard], meters: MeterSet, scales: Mapping[str, int]
) -> Case:
    """A request with its entitlement checked and its estimate measured. Raises what makes the
    request itself faulty."""
    case = Case(ask, cards.get(ask.customer_id))
    case.reasons = entitlement_faults(case.card, ask.customer_id, ask.feature)
    if ask.maximum is not None:
        asset, value = ask.maximum
        if asset not in scales:
            raise AssetUnknown(asset)
        case.needed = {
            asset: Needed(scales[asset], parse_atoms(value, scales[asset], "maximum.value"))
        }
    elif ask.estimate is not None and case.card is not None:
        case.measure(meters, scales)
        if not case.measured.priced and not ask.feature:
            case.reasons.append(not_offered(ask.customer_id, ask.estimate.name))
        if ask.partial:
            case.quantity_property = _quantity_property(case)
    return case


def open_cases(
    asks: Sequence[Ask],
    cards: Mapping[str, RateCard],
    meters: MeterSet,
    scales: Mapping[str, int],
) -> tuple[dict[int, Case], dict[int, Authorization | Exception]]:
    """The requests of a batch by position, the first of each id; and those that are faulty."""
    cases: dict[int, Case] = {}
    faults: dict[int, Authorization | Exception] = {}
    seen: set[str] = set()
    for position, ask in enumerate(asks):
        if ask.request_id in seen:
            continue
        seen.add(ask.request_id)
        try:
            cases[position] = open_case(ask, cards, meters, scales)
        except Refusal as refusal:
            faults[position] = refusal
    return cases, faults


def _failing(standings: Sequence[Standing]) -> list[Standing]:
    return [standing for standing in standings if standing.limit.is_hard and not standing.fits]


def _quantity_property(case: Case) -> str:
    """The property that may be granted in part. Raises InvalidValue where that is not clear."""
    named, ask = case.ask.quantity_property, case.ask
    read = {
        meter.value_property
        for meter, _ in case.measured.counted
        if meter.value_property and meter.aggregation is Aggregation.SUM
    }
    if not named:
        if len(read) > 1:
            raise InvalidValue("quantity_property", f"is required: one of {sorted(read)}")
        return next(iter(read), "")
    assert ask.estimate is not None
    if named not in read:
        raise InvalidValue("quantity_property", f"no meter of the usage reads {named!r}")
    parse_number(ask.estimate.properties[named], f"estimate.properties.{named}")
    return named


def told(standing: Standing) -> Told:
    """How a limit stands once the usage is set aside."""
    limit = standing.limit
    return Told(
        limit.feature,
        limit.meter,
        limit.is_hard,
        text_of(limit.quantity),
        text_of(standing.used),
        text_of(standing.reserved + standing.needed),
        text_of(max(standing.left - standing.needed, 0)),
        text_of(standing.overage),
        standing.reset_time,
    )
