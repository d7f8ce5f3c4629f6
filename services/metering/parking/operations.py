"""Taking parked events up: each goes the way of any event, and leaves when it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from chassis.call import Call
from chassis.database import Database
from kernel.errors import Refusal
from metering.events.domain.event import EventState, Outcome, check_time, invalid
from metering.events.domain.inflow import Arrival
from metering.events.operations import Ingest
from metering.meters.operations import Meters
from metering.parking import store
from metering.parking.domain import Parked, next_attempt

REPLAYED_MAX = 1_000  # in one go


class Parking:
    """Tries parked events again."""

    def __init__(self, database: Database, ingest: Ingest, meters: Meters) -> None:
        self._database = database
        self._ingest = ingest
        self._meters = meters

    async def sweep(self, call: Call) -> int:
        """Try those whose time has come; answers how many were taken up."""
        async with self._database.transaction(call.tenant_id) as tx:
            version = (await self._meters.current(tx, call.tenant_id)).version
            due = await store.list_due(tx, call.tenant_id, version, REPLAYED_MAX)
        outcomes = await self.replay(due, call)
        return sum(outcome.state is not EventState.PARKED for outcome in outcomes)

    async def replay(self, parked: Sequence[Parked], call: Call) -> list[Outcome]:
        """Try these; what still cannot be taken stays, with the reason of this attempt."""
        if not parked:
            return []
        arrivals: list[Arrival] = []
        faults: dict[int, Outcome] = {}
        for index, each in enumerate(parked):
            field = f"events[{index}]"
            try:
                check_time(each.event.event_time, call.now, f"{field}.event_time")
            except Refusal as refusal:
                faults[index] = invalid(each.event.event_id, refusal)
            else:
                arrivals.append(Arrival(each.event, field, call, each.receipt_id))
        taken = iter(await self._ingest.take(arrivals))
        outcomes = [
            faults[index] if index in faults else next(taken) for index in range(len(parked))
        ]
        await self._note(parked, outcomes, call)
        return [
            outcome._replace(state=EventState.PARKED)
            if outcome.state is EventState.INVALID
            else outcome
            for outcome in outcomes
        ]

    async def _note(
        self, parked: Sequence[Parked], outcomes: Sequence[Outcome], call: Call
    ) -> None:
        tenant_id = call.tenant_id
        # Attempts follow the machine's clock, whatever a test clock says.
        now = datetime.now(UTC)
        async with self._database.transaction(tenant_id) as tx:
            version = (await self._meters.current(tx, tenant_id)).version
            waiting = [
                each._replace(
                    refusal=outcome.refusal,
                    meter_version=version,
                    attempts=each.attempts + 1,
                    next_attempt_time=next_attempt(each.attempts + 1, now),
                )
                for each, outcome in zip(parked, outcomes, strict=True)
                if outcome.state is EventState.INVALID and outcome.refusal is not None
            ]
            if waiting:
                await store.note_attempts(tx, tenant_id, waiting)
