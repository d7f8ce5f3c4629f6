"""Pricing requests at the margin, fitting them to limits, and setting funds aside for them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from chassis.call import Call
from chassis.database import Database, DatabaseUnavailable
from kernel.errors import Refusal
from kernel.money import format_atoms, parse_atoms
from metering.charging.domain import Held, HoldRequest, Refused
from metering.charging.operations import Wallet
from metering.events.domain.event import CustomerUnknown
from metering.events.domain.matching import PricedMeasure, UsageKey
from metering.gate import store
from metering.gate.domain.authorization import Authorization, Hold
from metering.gate.domain.case import Ask, Case, open_cases
from metering.gate.domain.estimate import (
    Estimate,
    Margins,
    Needed,
    PricedEstimate,
    is_marginal,
    measure_estimate,
    short_of_funds,
)
from metering.limits.domain import LimitBook
from metering.limits.operations import Question, read_book
from metering.meters.domain import MeterSet
from metering.meters.operations import Meters
from metering.ratecards.domain import Entry, Pricing, RateCard
from metering.ratecards.operations import RateCards
from metering.usage import store as usage

METERS_ATTEMPTS = 3  # a batch that meets newly published meters is measured again
PARTIAL_ATTEMPTS = 3  # others may take what was left while a part of it is asked for


@dataclass(slots=True)
class Weighed:
    """The requests of a batch with what they need, and what that was found by."""

    cases: dict[int, Case] = field(default_factory=dict)
    faults: dict[int, Authorization | Exception] = field(default_factory=dict)
    margins: Margins = field(default_factory=lambda: Margins({}, {}, {}))
    book: LimitBook = field(default_factory=LimitBook)
    meters: MeterSet = field(default_factory=lambda: MeterSet.of(0, []))
    scales: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Want:
    """Funds that one request wants in one asset."""

    case: Case
    asset: str
    needed: Needed


# Sets funds aside for wants, each fits or is refused.
Place = Callable[[Sequence[Want]], Awaitable[list[Held | Refused]]]


class Weighing:
    """What the gate and changes of authorizations have in common."""

    def __init__(
        self, database: Database, meters: Meters, cards: RateCards, wallet: Wallet
    ) -> None:
        self.wallet = wallet
        self._database = database
        self._meters = meters
        self._cards = cards

    async def estimate(
        self, customer_id: str, estimate: Estimate, call: Call
    ) -> list[PricedEstimate]:
        """What usage would cost now. Raises CustomerUnknown and what `measure_estimate` raises."""
        cards = await self._cards.of(call.tenant_id, [customer_id], call)
        card = cards.get(customer_id)
        if card is None:
            raise CustomerUnknown("customer_id", customer_id)
        assets = set(card.wallet_assets)
        scales = await self.wallet.scales_of(call.tenant_id, assets, call) if assets else {}
        measures: list[PricedMeasure] = []
        fault: Refusal | None = None

        def measure(meters: MeterSet) -> dict[UsageKey, Entry]:
            nonlocal measures, fault
            measures, fault = [], None
            try:
                measures = measure_estimate(
                    estimate, call.now, meters, card, scales, "estimate"
                ).priced
            except Refusal as refusal:
                fault = refusal
            return _entries(measures)

        margins, _ = await self._read_margins(call, scales, measure)
        if fault is not None:
            raise fault
        return margins.price(customer_id, measures, estimate.properties, call.now)

    async def weigh(self, asks: Sequence[Ask], call: Call) -> Weighed:
        """Price every request and fit it to limits; faulty ones stand in `faults`."""
        cards = await self._cards.of(call.tenant_id, {ask.customer_id for ask in asks}, call)
        weighed = Weighed(scales=await self._scales(asks, cards, call))

        def measure(meters: MeterSet) -> dict[UsageKey, Entry]:
            weighed.cases, weighed.faults = open_cases(asks, cards, meters, weighed.scales)
            entries: dict[UsageKey, Entry] = {}
            for case in weighed.cases.values():
                entries |= _entries(case.measured.priced)
            return entries

        weighed.margins, weighed.meters = await self._read_margins(call, weighed.scales, measure)
        cases = list(weighed.cases.values())
        questions = [
            Question(case.ask.customer_id, case.card.limits, case.measured.counted, call.now)
            for case in cases
            if case.card is not None and case.card.limits and not case.reasons
        ]
        if questions:
            weighed.book = await read_book(
                self._database, call.tenant_id, weighed.meters, questions
            )
        for case in cases:
            case.fit_limits(weighed.book, weighed.meters, weighed.scales)
            if not case.reasons:
                case.price(weighed.margins)
        return weighed

    async def _scales(
        self, asks: Sequence[Ask], cards: Mapping[str, RateCard], call: Call
    ) -> dict[str, int]:
        assets = {asset for card in cards.values() for asset in card.wallet_assets}
        assets |= {ask.maximum.asset for ask in asks if ask.maximum is not None}
        return await self.wallet.scales_of(call.tenant_id, assets, call) if assets else {}

    async def _read_margins(
        self,
        call: Call,
        scales: Mapping[str, int],
        measure: Callable[[MeterSet], dict[UsageKey, Entry]],
    ) -> tuple[Margins, MeterSet]:
        """Measure by the meters as they are stored now, and read what the measures need.

        `measure` answers the entries whose running usage matters. It is called again where meters
        were published meanwhile, so what it found before is void.
        """
        meters = await self._meters.of(call.tenant_id)
        for _ in range(METERS_ATTEMPTS):
            entries = measure(meters)
            read = await store.read_gate(
                self._database, call.tenant_id, {key[0] for key in entries}, [*entries], call.now
            )
            if read.meter_version == meters.version:
                return await self._margins_of(read, call, entries, meters, scales), meters
            meters = await self._meters.refresh(call.tenant_id)
        raise DatabaseUnavailable("meters are published faster than they can be read")

    async def _margins_of(
        self,
        read: store.Reading,
        call: Call,
        entries: Mapping[UsageKey, Entry],
        meters: MeterSet,
        scales: Mapping[str, int],
    ) -> Margins:
        other = usage.other_pricings(read.figures, entries)
        pricings: Mapping[UUID, Pricing] = {}
        if other:
            async with self._database.transaction(call.tenant_id) as tx:
                pricings = await usage.load_pricings(tx, call.tenant_id, other)
        runnings = usage.make_runnings(read.figures, entries, meters, pricings)
        reserved = {k: (usage.read_number(r.quantity), r.atoms) for k, r in read.reserved.items()}
        return Margins(runnings, reserved, scales)

    # --- setting aside ------------------------------------------------------------------------

    async def set_aside(
        self, weighed: Weighed, place: Place, call: Call, kept: frozenset[str] = frozenset()
    ) -> None:
        """Set funds aside for every request that needs some.

        One that gets less than all of what it needs gives back the rest and is denied, or asks
        again for the part of its quantity that there are funds for. Holds in `kept` are not given
        back: they were there before.
        """
        cases = [case for case in weighed.cases.values() if case.needed]
        for attempt in range(1, PARTIAL_ATTEMPTS + 1):
            last = attempt == PARTIAL_ATTEMPTS
            cases = await self._place(weighed, cases, place, call, kept, last=last)
            if not cases:
                return

    async def _place(
        self,
        weighed: Weighed,
        cases: Sequence[Case],
        place: Place,
        call: Call,
        kept: frozenset[str],
        *,
        last: bool,
    ) -> list[Case]:
        """One round; answers the requests that want less now."""
        wants = [
            Want(case, asset, needed)
            for case in cases
            if not case.reasons
            for asset, needed in case.needed.items()
        ]
        if not wants:
            return []
        refusals: dict[int, dict[str, Refused]] = {}
        for want, outcome in zip(wants, await place(wants), strict=True):
            case, asset, scale = want.case, want.asset, want.needed.scale
            if isinstance(outcome, Held):
                case.holds[asset] = Hold(
                    asset, scale, outcome.hold_id, outcome.atoms, outcome.available
                )
            else:
                refusals.setdefault(id(case), {})[asset] = outcome
        again: list[Case] = []
        useless: list[str] = []
        for case in cases:
            refused = refusals.get(id(case))
            if not refused:
                continue
            useless += [h.hold_id for h in case.holds.values() if h.hold_id not in kept]
            case.holds = {}
            if not last and _reduce_to_funds(case, refused, weighed):
                again.append(case)
            else:
                case.reasons += [
                    short_of_funds(
                        cause,
                        asset,
                        format_atoms(case.needed[asset].atoms, case.needed[asset].scale),
                    )
                    for asset, cause in refused.items()
                ]
        await self.wallet.void_holds(call.tenant_id, useless, call)
        return again


def _reduce_to_funds(case: Case, refused: Mapping[str, Refused], weighed: Weighed) -> bool:
    """Ask for the largest part of the quantity that the wallet has room for; false where there is
    none, or only the whole will do."""
    if not case.ask.partial or not case.quantity_property or case.estimate is None:
        return False
    budgets = {asset: needed.atoms for asset, needed in case.needed.items()}
    for asset, cause in refused.items():
        left = cause.facts.get("left" if cause.reason == "SPEND_CAP_REACHED" else "available")
        if left is None or left.startswith("-"):
            return False
        budgets[asset] = parse_atoms(left, case.needed[asset].scale, "available")
    weighed.margins.forget(case.priced)
    whole = _affordable(case, budgets, weighed)
    if whole < 1:
        return False
    case.reduce(whole, weighed.meters, weighed.scales)
    case.price(weighed.margins)
    return all(case.needed[asset].atoms <= budgets[asset] for asset in case.needed)


def _affordable(case: Case, budgets: Mapping[str, int], weighed: Weighed) -> int:
    """The most whole units of the quantity that fit the budgets, up to one less than was asked.

    Each price by itself says where it ends, so that no quantity on the way is dearer (a price may
    fall at a bound); what several prices ask of one asset together is found between those ends.
    """
    assert case.estimate is not None
    margins, ask, estimate = weighed.margins, case.ask, case.estimate
    asked = usage.read_number(estimate.properties[case.quantity_property])
    high = int(-(-asked // 1)) - 1
    for measure in case.measured.priced:
        asset = measure.entry.pricing.price.asset
        scaled = measure.meter.value_property == case.quantity_property
        if measure.entry.from_wallet and scaled and asset in budgets:
            most = margins.affordable(
                ask.customer_id, measure, estimate.properties, ask.call.now, budgets[asset]
            )
            if most is not None:
                high = min(high, int(most // 1))

    def fits(whole: int) -> bool:
        trial = Case(ask, case.card)
        trial.estimate, trial.quantity_property = estimate, case.quantity_property
        trial.reduce(whole, weighed.meters, weighed.scales)
        trial.price(margins)
        margins.forget(trial.priced)
        return all(needed.atoms <= budgets.get(a, 0) for a, needed in trial.needed.items())

    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def hold_request(want: Want) -> HoldRequest:
    """A hold to place. Its key says what is asked, so that a request which is repeated after a
    crash finds its hold, and one that is priced otherwise by then does not meet another's."""
    ask, asset, needed = want.case.ask, want.asset, want.needed
    seconds = ask.time_to_live.total_seconds()
    said = f"{ask.request_id}\n{asset}\n{needed.atoms}\n{needed.meter}\n{seconds}"
    key = hashlib.blake2b(said.encode() + ask.fingerprint, digest_size=16).hexdigest()
    return HoldRequest(
        f"authorize:{key}",
        ask.customer_id,
        asset,
        needed.scale,
        needed.atoms,
        needed.meter,
        ask.feature,
        needed.product,
        seconds,
        ask.node,
    )


def _entries(measures: Sequence[PricedMeasure]) -> dict[UsageKey, Entry]:
    return {measure.key: measure.entry for measure in measures if is_marginal(measure)}
