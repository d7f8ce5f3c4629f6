"""The one place from which providers are called: between two transactions, and inside none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from chassis.database import Database
from chassis.metrics import Metrics
from gateway.attempts import store
from gateway.attempts.operations import Recorder, Work
from gateway.domain.attempt import State
from gateway.domain.outcome import UNCLEAR, Basis, Finding, Outcome, Witness, as_evidence
from gateway.domain.payment import PaymentState
from gateway.domain.resolution import (
    REPLAYS_AT_ONCE,
    WITNESSES,
    Question,
    before_sending,
    needs_asking,
    questions,
)
from gateway.providers.driver import Driver, Played
from gateway.providers.lines import SecretMissing
from gateway.providers.plan import Note, Plan
from kernel.clock import Clock

DUE_TOGETHER_MAX = 16  # operations asked about at once by one process
CLOSE_SECONDS_MAX = 5.0  # for calls under way; what takes longer is left to its lease

log = structlog.get_logger("gateway.collection")


class Collector:
    """Plays plans for operations that are written down, and has recorded what came of them."""

    def __init__(
        self,
        database: Database,
        driver: Driver,
        recorder: Recorder,
        metrics: Metrics,
        clock: Clock,
        lease: timedelta,
    ) -> None:
        self.lease = lease
        self.clock = clock
        self._database = database
        self._driver = driver
        self._recorder = recorder
        self._metrics = metrics
        self._under_way: dict[UUID, asyncio.Task[None]] = {}  # by attempt

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

    def start(self, work: Work) -> None:
        """Begin to carry out an operation whose intent is committed. It goes on without us."""
        attempt_id = work.attempt.attempt_id
        task = asyncio.create_task(self._carry_out(work), name=f"attempt {attempt_id}")
        self._under_way[attempt_id] = task
        task.add_done_callback(lambda ended: self._ended(attempt_id, ended))

    async def wait(self, attempt_id: UUID, seconds: float) -> None:
        """Wait until an attempt that this process carries out is recorded, or time is up."""
        task = self._under_way.get(attempt_id)
        if task is not None and seconds > 0:
            await asyncio.wait([task], timeout=seconds)

    def _ended(self, attempt_id: UUID, task: asyncio.Task[None]) -> None:
        self._under_way.pop(attempt_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nothing is lost: the lease runs out and the sweeper asks what became of it.
            log.error("attempt_left_to_its_lease", attempt_id=str(attempt_id), exc_info=error)

    async def _carry_out(self, work: Work) -> None:
        # Looks come with the schedule; a replay is as good as a reply, and comes at once.
        replays = _replays(_offered(work, State.UNKNOWN, self.clock.now()))
        played = await self._play(work, work.provider.charge(work.charge(), work.line.login))
        attempt = await self._recorder.record(work, played, Witness.REPLY, last=not replays)
        if attempt.state is State.UNKNOWN:
            await self._ask(replace(work, attempt=attempt), replays, None)

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
        async with self._database.transaction(tenant_id) as tx:
            operation = await store.lease_operation(tx, tenant_id, operation_id, now, self.lease)
            work = await self._recorder.load(tx, tenant_id, operation) if operation else None
        if work is None:
            return
        asked = _offered(work, work.attempt.state, now)
        if work.attempt.state is State.REQUESTED:
            # Whoever sent it is gone, or is so slow that nobody waits for it any more.
            asked = _offered(work, State.UNKNOWN, now)
            asked = _replays(asked) + tuple(each for each in asked if each is not Question.REPLAY)
            silence = Outcome(Finding.SILENCE, detail="nobody recorded an outcome in time")
            attempt = await self._recorder.record(
                work, Played(silence, ()), Witness.LEASE, last=not asked, machine_now=now
            )
            work = replace(work, attempt=attempt)
            if not needs_asking(attempt.state):
                return
        elif not asked:
            nothing = Played(Outcome(Finding.SILENCE, detail="nothing may be asked"), ())
            await self._recorder.record(work, nothing, Witness.LEASE, last=True, machine_now=now)
        await self._ask(work, asked, now)

    async def _ask(self, work: Work, asked: Sequence[Question], now: datetime | None) -> None:
        """Ask one question after another until an answer is clear."""
        for position, question in enumerate(asked, start=1):
            played = await self._put(work, question, now)
            witness, last = WITNESSES[question], position == len(asked)
            attempt = await self._recorder.record(work, played, witness, last=last, machine_now=now)
            clear = as_evidence(played.outcome, witness).finding not in UNCLEAR
            if clear or attempt.state is not work.attempt.state:
                return
            work = replace(work, attempt=attempt)

    async def look(self, work: Work) -> Played | None:
        """Look at the payment itself, by its id and else by our reference, for a caller who records
        the answer, clear or not; None where neither is to be had."""
        played = None
        for question in _offered(work, State.PROCESSING, self.clock.now()):
            played = await self._put(work, question, None)
            if as_evidence(played.outcome, WITNESSES[question]).finding not in UNCLEAR:
                return played
        return played

    async def _put(self, work: Work, question: Question, now: datetime | None) -> Played:
        login = work.line.login
        match question:
            case Question.REPLAY:
                asking = before_sending(work.operation.asking, now or self.clock.now())
                async with self._database.transaction(work.tenant_id) as tx:
                    await store.save_sending(
                        tx, work.tenant_id, work.operation.operation_id, asking, self.lease
                    )
                plan = work.provider.charge(work.charge(), login)
            case Question.READ:
                assert work.provider.read is not None, "read_by_id is declared"
                plan = work.provider.read(work.look(), login)
            case Question.FIND:
                assert work.provider.find is not None, "lookup is declared"
                plan = work.provider.find(work.look(), login)
        return await self._play(work, plan)

    async def _play(self, work: Work, plan: Plan) -> Played:
        async def keep(note: Note) -> None:
            async with self._database.transaction(work.tenant_id) as tx:
                await store.save_note(
                    tx, work.tenant_id, work.operation.operation_id, note.name, note.value
                )

        try:
            played = await self._driver.play(plan, work.line, keep)
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
            self._metrics.provider_call_seconds.of(work.provider.name, call.method, result).observe(
                call.duration_ms / 1000
            )
        return played


def _offered(work: Work, state: State, now: datetime) -> tuple[Question, ...]:
    return questions(
        state,
        work.capabilities,
        work.operation.asking,
        has_provider_id=bool(work.attempt.provider_payment_id),
        wanted=work.payment.state is not PaymentState.CANCELED,
        now=now,
    )


def _replays(offered: Sequence[Question]) -> tuple[Question, ...]:
    return (Question.REPLAY,) * (REPLAYS_AT_ONCE if Question.REPLAY in offered else 0)
