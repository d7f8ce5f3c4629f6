"""The one place from which providers are called: between two transactions, and inside none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog

from chassis.database import Connection, Database
from chassis.metrics import Metrics
from gateway.attempts import store
from gateway.attempts.domain import Kind, Operation
from gateway.collection.domain import Errand, Standing
from gateway.domain.outcome import UNCLEAR, Basis, Finding, Outcome, Witness, as_evidence
from gateway.domain.resolution import REPLAYS_AT_ONCE, WITNESSES, Question, before_sending
from gateway.providers.driver import Driver, KeepNote, Played
from gateway.providers.exchange import Line
from gateway.providers.lines import SecretMissing
from gateway.providers.plan import Note, Plan, Steps
from gateway.providers.registry import ProviderUnreachable
from kernel.clock import Clock

DUE_TOGETHER_MAX = 16  # operations asked about at once by one process
UNREACHABLE_PAUSE = timedelta(seconds=5)
CLOSE_SECONDS_MAX = 5.0  # for calls under way; what takes longer is left to its lease

log = structlog.get_logger("gateway.collection")

T = TypeVar("T")


class ErrandRecorder(Protocol):
    """Loads errands of one kind, and records what was found out about them."""

    async def load(self, tx: Connection, tenant_id: UUID, operation: Operation) -> Any:
        """The errand of an operation as it stands; None where it has no target."""

    async def record(
        self,
        errand: Any,
        played: Played,
        witness: Witness,
        *,
        last: bool,
        machine_now: datetime | None = None,
    ) -> Any:
        """Record what a plan came to, and set when to ask next; returns the errand as it is now.

        Where the answer is not clear and `last` is false, the lease is kept: more is asked.
        """


class Collector:
    """Plays plans for operations that are written down, and has recorded what came of them."""

    def __init__(
        self,
        database: Database,
        driver: Driver,
        recorders: Mapping[Kind, ErrandRecorder],
        metrics: Metrics,
        clock: Clock,
        lease: timedelta,
    ) -> None:
        self.lease = lease
        self.clock = clock
        self._database = database
        self._driver = driver
        self._recorders = recorders
        self._metrics = metrics
        self._under_way: dict[UUID, asyncio.Task[None]] = {}  # by what callers wait for

    async def close(self) -> None:
        """Give calls under way a moment. What is cut off is found by its lease."""
        tasks = list(self._under_way.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS_MAX)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    # --- carrying out -----------------------------------------------------------------------------

    def start(self, errand: Errand) -> None:
        """Begin to carry out an operation whose intent is committed. It goes on without us."""
        waited_for = errand.waited_for
        task = asyncio.create_task(self._carry_out(errand), name=f"errand {waited_for}")
        self._under_way[waited_for] = task
        task.add_done_callback(lambda ended: self._ended(waited_for, ended))

    async def wait(self, waited_for: UUID, seconds: float) -> None:
        """Wait until what this process carries out for an attempt, a refund or a capture is
        recorded, or time is up."""
        task = self._under_way.get(waited_for)
        if task is not None and seconds > 0:
            await asyncio.wait([task], timeout=seconds)

    def _ended(self, waited_for: UUID, task: asyncio.Task[None]) -> None:
        self._under_way.pop(waited_for, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nothing is lost: the lease runs out and the sweeper asks what became of it.
            log.error("errand_left_to_its_lease", target=str(waited_for), exc_info=error)

    async def _carry_out(self, errand: Errand) -> None:
        # Looks come with the schedule; a replay is as good as a reply, and comes at once.
        replays = _replays(errand.offered(True, self.clock.now()))
        played = await self._play(errand, errand.send())
        recorded = await self._record(errand, played, Witness.REPLY, last=not replays)
        if recorded.standing is Standing.UNKNOWN:
            await self._ask(recorded, replays, None)

    # --- asking -----------------------------------------------------------------------------------

    async def settle_due(self, now: datetime) -> int:
        """Take up operations whose lease or wait is over; returns how many were due."""
        async with self._database.unscoped() as connection:
            due = await store.list_due(connection, now, DUE_TOGETHER_MAX)
        results = await asyncio.gather(
            *(self._settle(tenant_id, operation_id, now) for tenant_id, operation_id in due),
            return_exceptions=True,
        )
        for (_, operation_id), result in zip(due, results, strict=True):
            if isinstance(result, BaseException):
                log.error("settling_failed", operation_id=str(operation_id), exc_info=result)
        return len(due)

    async def observe_unknown(self, now: datetime) -> None:
        """Tell how many outcomes are unknown, and for how long."""
        async with self._database.unscoped() as connection:
            number, oldest = await store.count_unknown(connection)
        self._metrics.attempts_unknown.of().set(number)
        age = (now - oldest).total_seconds() if oldest else 0.0
        self._metrics.attempt_unknown_oldest_seconds.of().set(max(0.0, age))

    async def _settle(self, tenant_id: UUID, operation_id: UUID, now: datetime) -> None:
        errand: Errand | None = None
        try:
            async with self._database.transaction(tenant_id) as tx:
                operation = await store.lease_operation(
                    tx, tenant_id, operation_id, now, self.lease
                )
                if operation is not None:
                    errand = await self._recorders[operation.kind].load(tx, tenant_id, operation)
        except ProviderUnreachable:
            # Whoever serves it has not come back; nobody else is made to wait for that.
            async with self._database.transaction(tenant_id) as tx:
                await store.put_off(tx, tenant_id, operation_id, now + UNREACHABLE_PAUSE)
            return
        if errand is None or errand.standing is Standing.ENDED:
            return
        if errand.standing is Standing.REQUESTED and errand.operation.tries == 1:
            # Written down by a job rather than for a caller: nobody has sent it yet.
            await self._carry_out(errand)
            return
        asked: Sequence[Question] = errand.offered(False, now)
        if errand.standing is Standing.REQUESTED:
            # Whoever sent it is gone, or is so slow that nobody waits for it any more.
            supposed = errand.offered(True, now)
            asked = _replays(supposed) + tuple(
                each for each in supposed if each is not Question.REPLAY
            )
            silence = Outcome(Finding.SILENCE, detail="nobody recorded an outcome in time")
            errand = await self._record(
                errand, Played(silence, ()), Witness.LEASE, last=not asked, now=now
            )
            if errand.standing is Standing.ENDED:
                return
        elif not asked:
            nothing = Played(Outcome(Finding.SILENCE, detail="nothing may be asked"), ())
            await self._record(errand, nothing, Witness.LEASE, last=True, now=now)
        await self._ask(errand, asked, now)

    async def _ask(self, errand: Errand, asked: Sequence[Question], now: datetime | None) -> None:
        """Ask one question after another until an answer is clear."""
        for position, question in enumerate(asked, start=1):
            played = await self._put(errand, question, now)
            witness, last = WITNESSES[question], position == len(asked)
            recorded = await self._record(errand, played, witness, last=last, now=now)
            clear = as_evidence(played.outcome, witness).finding not in UNCLEAR
            if clear or recorded.stage != errand.stage:
                return
            errand = recorded

    async def look(self, errand: Errand) -> Played | None:
        """Look at the thing itself, by its id and else by our reference, for a caller who records
        the answer, clear or not; None where neither is to be had."""
        played = None
        for question in errand.offered(False, self.clock.now()):
            if question is Question.REPLAY:
                continue
            played = await self._put(errand, question, None)
            if as_evidence(played.outcome, WITNESSES[question]).finding not in UNCLEAR:
                return played
        return played

    async def consult(self, plan: Steps[T], line: Line, keep_note: KeepNote | None = None) -> T:
        """Play a plan that belongs to no operation; most of them read, and note nothing.

        Raises SecretMissing.
        """

        async def keep(note: Note) -> None:
            log.warning("note_of_a_reading", name=note.name)

        read, _ = await self._driver.run(plan, line, keep_note or keep)
        return read

    async def ask_now(self, errand: Errand) -> None:
        """Look at the thing itself ahead of the schedule, and have recorded what is seen."""
        offered = errand.offered(False, self.clock.now())
        await self._ask(errand, [each for each in offered if each is not Question.REPLAY], None)

    async def _put(self, errand: Errand, question: Question, now: datetime | None) -> Played:
        match question:
            case Question.REPLAY:
                asking = before_sending(errand.operation.asking, now or self.clock.now())
                async with self._database.transaction(errand.tenant_id) as tx:
                    await store.save_sending(
                        tx, errand.tenant_id, errand.operation.operation_id, asking, self.lease
                    )
                plan = errand.send()
            case Question.READ:
                plan = errand.read()
            case Question.FIND:
                plan = errand.find()
        return await self._play(errand, plan)

    async def _record(
        self,
        errand: Errand,
        played: Played,
        witness: Witness,
        *,
        last: bool,
        now: datetime | None = None,
    ) -> Errand:
        recorder = self._recorders[errand.operation.kind]
        recorded: Errand = await recorder.record(
            errand, played, witness, last=last, machine_now=now
        )
        return recorded

    async def _play(self, errand: Errand, plan: Plan) -> Played:
        async def keep(note: Note) -> None:
            async with self._database.transaction(errand.tenant_id) as tx:
                await store.save_note(
                    tx, errand.tenant_id, errand.operation.operation_id, note.name, note.value
                )

        try:
            played = await self._driver.play(plan, errand.line, keep)
        except SecretMissing as error:
            refused = Outcome(
                Finding.REJECTED,
                decline_code=Basis.ACCESS.value,
                basis=Basis.ACCESS,
                detail=str(error),
            )
            return Played(refused, ())
        for call in played.calls:
            result = str(call.status) if call.status else "silence"
            name = errand.provider.name
            self._metrics.provider_call_seconds.of(name, call.method, result).observe(
                call.duration_ms / 1000
            )
        return played


def _replays(offered: Sequence[Question]) -> tuple[Question, ...]:
    return (Question.REPLAY,) * (REPLAYS_AT_ONCE if Question.REPLAY in offered else 0)
