"""Answering authorizations in batches: one read, one call for holds, one insert."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from chassis.call import Call
from chassis.database import Database, DatabaseUnavailable
from chassis.lanes import Lanes
from kernel.errors import IdempotencyConflict, NotFound, Refusal
from kernel.ids import new_id
from kernel.money import format_atoms, parse_atoms
from metering.charging.domain import AssetUnknown, Held, HoldRequest, OverUse, Refused
from metering.charging.operations import Wallet
from metering.events.domain.event import CustomerUnknown
from metering.events.domain.matching import PricedMeasure, UsageKey
from metering.gate import store
from metering.gate.domain.authorization import (
    Authorization,
    AuthorizationEnded,
    AuthorizationState,
    Hold,
    Reservation,
)
from metering.gate.domain.estimate import (
    Estimate,
    Margins,
    Needed,
    PricedEstimate,
    entitlement_faults,
    funds_of,
    is_marginal,
    measure_estimate,
    not_offered,
    short_of_funds,
)
from metering.meters.domain import MeterSet
from metering.meters.operations import Meters
from metering.ratecards.domain import Entry, Pricing, RateCard
from metering.ratecards.operations import RateCards
from metering.usage import store as usage

BATCH_MAX = 500  # authorizations of one round; each may need a hold in several assets
QUEUE_MAX = 5_000
METERS_ATTEMPTS = 3  # a batch that meets newly published meters is measured again


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


class Maximum(NamedTuple):
    """An amount, for callers that price for themselves."""

    asset: str
    value: str


class _Case:
    """One request on its way to its answer."""

    def __init__(self, ask: Ask, authorization_id: UUID) -> None:
        self.ask = ask
        self.authorization_id = authorization_id
        self.reasons: list[Refused] = []
        self.measures: list[PricedMeasure] = []
        self.needed: dict[str, Needed] = {}
        self.reserved: list[Reservation] = []
        self.holds: list[Hold] = []

    def answer(self) -> Authorization:
        denied = bool(self.reasons)
        return Authorization(
            authorization_id=self.authorization_id,
            request_id=self.ask.request_id,
            fingerprint=self.ask.fingerprint,
            customer_id=self.ask.customer_id,
            feature=self.ask.feature,
            state=AuthorizationState.DENIED if denied else AuthorizationState.OPEN,
            over_use=self.ask.over_use,
            holds=() if denied else tuple(self.holds),
            reserved=() if denied else tuple(self.reserved),
            reasons=tuple(self.reasons),
            create_time=self.ask.call.now,
            expire_time=self.ask.call.now + self.ask.time_to_live,
        )


class Gate:
    """The gate's lanes and single operations."""

    def __init__(
        self, database: Database, meters: Meters, cards: RateCards, wallet: Wallet, lanes: int
    ) -> None:
        self._database = database
        self._meters = meters
        self._cards = cards
        self._wallet = wallet
        self._lanes: Lanes[Ask, Authorization] = Lanes(
            self._flush,
            count=lanes,
            batch_max=BATCH_MAX,
            queue_max=QUEUE_MAX,
            group_of=lambda ask: ask.call.tenant_id,
            name="gate",
        )

    async def authorize(self, ask: Ask) -> Authorization:
        """Answer one request; a denial is an answer. Raises what makes the request itself faulty,
        IdempotencyConflict, or UNAVAILABLE where the wallet or invoicing is away."""
        return await self._lanes.submit(ask.customer_id, ask)

    async def authorize_many(self, asks: Sequence[Ask]) -> list[Authorization | Exception]:
        """The same for a batch, in order."""
        return await self._lanes.submit_many(asks[0].request_id, asks) if asks else []

    async def estimate(
        self, customer_id: str, estimate: Estimate, call: Call
    ) -> list[PricedEstimate]:
        """What usage would cost now. Raises CustomerUnknown and what `measure_estimate` raises."""
        cards = await self._cards.of(call.tenant_id, [customer_id], call)
        card = cards.get(customer_id)
        if card is None:
            raise CustomerUnknown("customer_id", customer_id)
        assets = set(card.wallet_assets)
        scales = await self._wallet.scales_of(call.tenant_id, assets, call) if assets else {}
        measures: list[PricedMeasure] = []
        fault: Refusal | None = None

        def measure(meters: MeterSet) -> dict[UsageKey, Entry]:
            nonlocal measures, fault
            measures, fault = [], None
            try:
                measures = measure_estimate(estimate, call.now, meters, card, scales, "estimate")
            except Refusal as refusal:
                fault = refusal
            return _entries(measures)

        margins = await self._read_margins(call, scales, measure)
        if fault is not None:
            raise fault
        return margins.price(customer_id, measures, estimate.properties, call.now)

    async def void(self, authorization_id: UUID, call: Call) -> Authorization:
        """Give back what an authorization set aside; voiding again is the same answer.

        Raises NotFound, AuthorizationEnded where it ended otherwise, and UNAVAILABLE where the
        wallet is away: it is voided then, and calling again releases its funds.
        """
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_by_id(tx, call.tenant_id, [authorization_id], lock=True)
            authorization = _existing(found.get(authorization_id), authorization_id)
            state = authorization.state_at(call.now)
            if state is AuthorizationState.OPEN:
                voided = AuthorizationState.VOIDED
                await store.save_state(tx, call.tenant_id, [authorization_id], voided)
            elif state is not AuthorizationState.VOIDED:
                raise AuthorizationEnded(authorization_id, state.name)
        hold_ids = [hold.hold_id for hold in authorization.holds]
        await self._wallet.void_holds(call.tenant_id, hold_ids, call)
        return authorization._replace(state=AuthorizationState.VOIDED)

    async def get(self, authorization_id: UUID, call: Call) -> Authorization:
        """Look at one authorization. Raises NotFound."""
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_by_id(tx, call.tenant_id, [authorization_id])
        authorization = _existing(found.get(authorization_id), authorization_id)
        return authorization._replace(state=authorization.state_at(call.now))

    async def close(self) -> None:
        """Finish what was taken."""
        await self._lanes.close()

    # --- one batch ----------------------------------------------------------------------------

    async def _flush(self, asks: Sequence[Ask]) -> list[Authorization | Exception]:
        call = max((ask.call for ask in asks), key=lambda one: one.clock_version)
        cards = await self._cards.of(call.tenant_id, {ask.customer_id for ask in asks}, call)
        scales = await self._scales(asks, cards, call)
        answers: dict[int, Authorization | Exception] = {}
        cases = await self._read(asks, cards, scales, call, answers)
        await self._hold(list(cases.values()), call)
        for position, case in cases.items():
            answers[position] = case.answer()
        await self._keep(asks, cases, answers, call)
        first = {ask.request_id: position for position, ask in reversed([*enumerate(asks)])}
        return [
            answers[position] if position in answers else _same(ask, answers[first[ask.request_id]])
            for position, ask in enumerate(asks)
        ]

    async def _scales(
        self, asks: Sequence[Ask], cards: Mapping[str, RateCard], call: Call
    ) -> dict[str, int]:
        assets = {asset for card in cards.values() for asset in card.wallet_assets}
        assets |= {ask.maximum.asset for ask in asks if ask.maximum is not None}
        return await self._wallet.scales_of(call.tenant_id, assets, call) if assets else {}

    async def _read(
        self,
        asks: Sequence[Ask],
        cards: Mapping[str, RateCard],
        scales: Mapping[str, int],
        call: Call,
        answers: dict[int, Authorization | Exception],
    ) -> dict[int, _Case]:
        """Price every request that the batch has not seen; a faulty one goes to `answers`.

        Whether a request was answered in an earlier batch is found when its answer is kept: that
        is rare, and looking for it first would cost every request a look-up.
        """
        cases: dict[int, _Case] = {}
        faults: dict[int, Authorization | Exception] = {}

        def measure(meters: MeterSet) -> dict[UsageKey, Entry]:
            nonlocal cases, faults
            cases, faults = _open_all(asks, cards, meters, scales)
            entries: dict[UsageKey, Entry] = {}
            for case in cases.values():
                entries |= _entries(case.measures)
            return entries

        margins = await self._read_margins(call, scales, measure)
        answers.update(faults)
        for case in cases.values():
            if case.reasons or case.ask.estimate is None:
                continue
            priced = margins.price(
                case.ask.customer_id,
                case.measures,
                case.ask.estimate.properties,
                case.ask.call.now,
            )
            case.needed = funds_of(priced)
            case.reserved = [each.reservation for each in priced if each.reservation and each.atoms]
        return cases

    async def _read_margins(
        self,
        call: Call,
        scales: Mapping[str, int],
        measure: Callable[[MeterSet], dict[UsageKey, Entry]],
    ) -> Margins:
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
                return await self._margins_of(read, call, entries, meters, scales)
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

    async def _hold(self, cases: Sequence[_Case], call: Call) -> None:
        """Set funds aside for every request that needs some; one that gets less than all of what
        it needs gives back the rest and is denied."""
        wanted = [
            (case, asset, needed)
            for case in cases
            if not case.reasons
            for asset, needed in case.needed.items()
        ]
        if not wanted:
            return
        requests = [_hold_request(case.ask, asset, needed) for case, asset, needed in wanted]
        outcomes = await self._wallet.place_holds(call.tenant_id, requests, call)
        for (case, asset, needed), outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, Held):
                case.holds.append(
                    Hold(asset, needed.scale, outcome.hold_id, outcome.atoms, outcome.available)
                )
            else:
                value = format_atoms(needed.atoms, needed.scale)
                case.reasons.append(short_of_funds(outcome, asset, value))
        useless = [hold.hold_id for case in cases if case.reasons for hold in case.holds]
        await self._wallet.void_holds(call.tenant_id, useless, call)

    async def _keep(
        self,
        asks: Sequence[Ask],
        cases: Mapping[int, _Case],
        answers: dict[int, Authorization | Exception],
        call: Call,
    ) -> None:
        """Make the answers durable. Where a request was answered before, the first answer stands,
        and funds that only ours set aside are given back."""
        made = {position: case.answer() for position, case in cases.items()}
        # What is faulty now may have been in order when it came first.
        faulty = {asks[position].request_id: position for position in answers.keys() - made.keys()}
        lost: dict[int, Authorization] = {}
        kept: set[str] = set()
        if made:
            kept = await store.keep(self._database, call.tenant_id, list(made.values()))
        missed = {each.request_id for each in made.values()} - kept | faulty.keys()
        if not missed:
            return
        async with self._database.transaction(call.tenant_id) as tx:
            earlier = await store.list_by_request(tx, call.tenant_id, missed)
        for request_id, position in faulty.items():
            if request_id in earlier:
                answers[position] = _same(asks[position], earlier[request_id])
        for position, case in cases.items():
            if case.ask.request_id in earlier:
                lost[position] = earlier[case.ask.request_id]
                answers[position] = _same(case.ask, lost[position])
        extra = [
            hold.hold_id
            for position, stands in lost.items()
            for hold in made[position].holds
            if hold.hold_id not in {kept_hold.hold_id for kept_hold in stands.holds}
        ]
        if extra:
            await self._wallet.void_holds(call.tenant_id, extra, call)


def _open_all(
    asks: Sequence[Ask],
    cards: Mapping[str, RateCard],
    meters: MeterSet,
    scales: Mapping[str, int],
) -> tuple[dict[int, _Case], dict[int, Authorization | Exception]]:
    """The requests of a batch by position, the first of each id; and those that are faulty."""
    cases: dict[int, _Case] = {}
    faults: dict[int, Authorization | Exception] = {}
    seen: set[str] = set()
    for position, ask in enumerate(asks):
        if ask.request_id in seen:
            continue
        seen.add(ask.request_id)
        try:
            cases[position] = _open(ask, cards, meters, scales)
        except Refusal as refusal:
            faults[position] = refusal
    return cases, faults


def _open(
    ask: Ask, cards: Mapping[str, RateCard], meters: MeterSet, scales: Mapping[str, int]
) -> _Case:
    """A request with its entitlement checked and its estimate measured. Raises what makes the
    request itself faulty."""
    case = _Case(ask, new_id(datetime.now(UTC)))
    card = cards.get(ask.customer_id)
    case.reasons = entitlement_faults(card, ask.customer_id, ask.feature)
    if ask.maximum is not None:
        asset, value = ask.maximum
        if asset not in scales:
            raise AssetUnknown(asset)
        case.needed = {
            asset: Needed(scales[asset], parse_atoms(value, scales[asset], "maximum.value"))
        }
    elif ask.estimate is not None and card is not None:
        case.measures = measure_estimate(
            ask.estimate, ask.call.now, meters, card, scales, "estimate"
        )
        if not case.measures and not ask.feature:
            case.reasons.append(not_offered(ask.customer_id, ask.estimate.name))
    return case


def _same(ask: Ask, earlier: Authorization | Exception) -> Authorization | Exception:
    """The first answer to a request that came again, unless it came with other content."""
    if isinstance(earlier, Exception):
        return earlier
    if earlier.fingerprint != ask.fingerprint:
        return IdempotencyConflict(ask.request_id)
    if earlier.state is AuthorizationState.DENIED:
        return earlier
    # What became of it since is another question: the answer was that usage may run.
    return earlier._replace(state=AuthorizationState.OPEN)


def _existing(found: Authorization | None, authorization_id: UUID) -> Authorization:
    if found is None or found.state is AuthorizationState.DENIED:
        raise NotFound("authorization", authorization_id)
    return found


def _entries(measures: Sequence[PricedMeasure]) -> dict[UsageKey, Entry]:
    return {measure.key: measure.entry for measure in measures if is_marginal(measure)}


def _hold_request(ask: Ask, asset: str, needed: Needed) -> HoldRequest:
    # The key says what is asked, so that a request which is repeated after a crash finds its hold,
    # and one that is priced otherwise by then does not meet another's.
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
    )
