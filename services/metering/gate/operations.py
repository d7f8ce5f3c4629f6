"""Answering authorizations in batches: one read, one call for holds, one insert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from chassis.call import Call
from chassis.database import Database, DatabaseUnavailable
from chassis.lanes import Lanes
from kernel.errors import IdempotencyConflict
from metering.charging.domain import Held, Refused
from metering.gate import store
from metering.gate.domain.authorization import Authorization, AuthorizationState
from metering.gate.domain.case import Ask
from metering.gate.domain.estimate import Estimate, PricedEstimate
from metering.gate.weighing.operations import Want, Weighed, Weighing, hold_request
from metering.limits.domain import WindowKey
from metering.limits.store import LimitsMoved

BATCH_MAX = 500  # authorizations of one round; each may need a hold in several assets
QUEUE_MAX = 5_000
LIMITS_ATTEMPTS = 5  # a batch whose limits another process moved is decided again


class Gate:
    """The gate's lanes."""

    def __init__(self, database: Database, weighing: Weighing, lanes: int) -> None:
        self._database = database
        self._weighing = weighing
        self._wallet = weighing.wallet
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
        """What usage would cost now. Raises CustomerUnknown, and what makes it faulty."""
        return await self._weighing.estimate(customer_id, estimate, call)

    async def close(self) -> None:
        """Finish what was taken."""
        await self._lanes.close()

    # --- one batch ----------------------------------------------------------------------------

    async def _flush(self, asks: Sequence[Ask]) -> list[Authorization | Exception]:
        call = max((ask.call for ask in asks), key=lambda one: one.clock_version)
        placed: set[str] = set()  # by attempts of before

        async def place(wants: Sequence[Want]) -> list[Held | Refused]:
            requests = [hold_request(want) for want in wants]
            return await self._wallet.place_holds(call.tenant_id, requests, call)

        for _ in range(LIMITS_ATTEMPTS):
            weighed = await self._weighing.weigh(asks, call)
            await self._weighing.set_aside(weighed, place, call)
            answers = dict(weighed.faults)
            for position, case in weighed.cases.items():
                answers[position] = case.answer()
            try:
                await self._keep(asks, weighed, answers, call)
            except LimitsMoved:
                placed |= {h.hold_id for c in weighed.cases.values() for h in c.holds.values()}
                continue
            if placed:
                await self._give_back(placed, weighed, call)
            return _in_order(asks, answers)
        raise DatabaseUnavailable("limits are moved faster than they can be decided")

    async def _give_back(self, placed: set[str], weighed: Weighed, call: Call) -> None:
        """Release what earlier attempts set aside and the last one did not."""
        kept = {h.hold_id for c in weighed.cases.values() for h in c.holds.values()}
        await self._wallet.void_holds(call.tenant_id, sorted(placed - kept), call)

    async def _keep(
        self,
        asks: Sequence[Ask],
        weighed: Weighed,
        answers: dict[int, Authorization | Exception],
        call: Call,
    ) -> None:
        """Make the answers durable. Where a request was answered before, the first answer stands,
        and funds that only ours set aside are given back.

        Whether it was is found here and not before: that is rare, and looking for it first would
        cost every request a look-up.
        """
        cases = weighed.cases
        made: dict[int, Authorization] = {}
        for position in cases:
            answer = answers[position]
            assert isinstance(answer, Authorization)
            made[position] = answer
        # What is faulty now may have been in order when it came first.
        faulty = {asks[position].request_id: position for position in answers.keys() - made.keys()}
        lost: dict[int, Authorization] = {}
        kept: set[str] = set()
        if made:
            kept = await store.keep(
                self._database, call.tenant_id, list(made.values()), *guards_of(weighed)
            )
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


def guards_of(
    weighed: Weighed,
) -> tuple[list[tuple[str, int]], list[tuple[WindowKey, datetime]]]:
    """The guards of customers whose limits the answers set something aside of, and the windows
    that open with them."""
    guards: dict[str, int] = {}
    windows: dict[WindowKey, datetime] = {}
    for case in weighed.cases.values():
        if case.reasons or not case.standings:
            continue
        customer_id = case.ask.customer_id
        guards[customer_id] = weighed.book.versions.get(customer_id, 0)
        windows |= weighed.book.openings(customer_id, case.standings)
    return sorted(guards.items()), list(windows.items())


def _in_order(
    asks: Sequence[Ask], answers: Mapping[int, Authorization | Exception]
) -> list[Authorization | Exception]:
    first = {ask.request_id: position for position, ask in reversed([*enumerate(asks)])}
    return [
        answers[position] if position in answers else _same(ask, answers[first[ask.request_id]])
        for position, ask in enumerate(asks)
    ]


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
