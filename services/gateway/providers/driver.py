"""The one driver: plays a plan over HTTP and tells it truthfully what was and was not answered.

Whether a request may have had an effect is decided here and nowhere else. A failure before the
first byte left is told as such; every other failure is silence, whatever the exception's name.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from gateway.domain.outcome import Outcome
from gateway.providers.exchange import (
    Exchange,
    HttpExchange,
    Line,
    OriginNotAllowed,
    Prepared,
    RpcExchange,
)
from gateway.providers.plan import Answer, Call, Note, Phase, Plan, Reply, Silence, Steps

__all__ = ["CallRecord", "Driver", "KeepNote", "Limits", "Line", "OriginNotAllowed", "Played"]

T = TypeVar("T")
CONNECT_REPEATS = 2
CONNECT_PAUSE_SECONDS = 0.2
BUSY_WAITS_SECONDS = (1.0, 2.0, 4.0)  # a key in use is free again when its request is done
RETRY_AFTER_SECONDS_MAX = 30.0
ACCOUNTS_MAX = 256  # clients kept open; the one unused longest makes room


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one driver. Rates and concurrency are per provider account."""

    plan_seconds: float = 90.0  # below the lease, so that two never play one operation
    call_seconds_max: float = 30.0
    concurrent_calls: int = 20
    calls_per_second: float = 50.0
    burst: int = 100


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What is kept of one call: digests, never bodies."""

    method: str
    path: str
    request_digest: str
    duration_ms: int
    status: int = 0  # 0: silence
    answer_digest: str = ""
    provider_request_id: str = ""
    silence: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """A plan's outcome, and the calls it took."""

    outcome: Outcome
    calls: tuple[CallRecord, ...]


KeepNote = Callable[[Note], Awaitable[None]]


class Driver:
    """Plays plans. Owns one connection per provider account; close it when done."""

    def __init__(
        self, limits: Limits | None = None, *, proxy: str | None = None, ca_file: str | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._proxy = proxy or None
        self._tls = ssl.create_default_context(cafile=ca_file or None)
        self._lanes: dict[UUID, _Lane] = {}

    async def close(self) -> None:
        lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            await lane.exchange.close()

    async def play(self, plan: Plan, line: Line, keep_note: KeepNote) -> Played:
        """Play a plan to its end. `keep_note` commits a note before the next call leaves."""
        outcome, calls = await self.run(plan, line, keep_note)
        return Played(outcome, calls)

    async def run(
        self, plan: Steps[T], line: Line, keep_note: KeepNote
    ) -> tuple[T, tuple[CallRecord, ...]]:
        """The same of a plan for anything: what it came to, and the calls that it took."""
        deadline = time.monotonic() + self.limits.plan_seconds
        lane = await self._lane(line)
        records: list[CallRecord] = []
        send: Reply | None = None
        while True:
            try:
                step = plan.send(send)
            except StopIteration as end:
                return end.value, tuple(records)
            if isinstance(step, Note):
                await keep_note(step)
                send = None
            else:
                send = await self._ask(step, line, lane, deadline, records)

    async def _lane(self, line: Line) -> _Lane:
        account_id = line.account.provider_account_id
        lane = self._lanes.pop(account_id, None)
        if lane is None:
            lane = _Lane(self._exchange(line), self.limits)
        self._lanes[account_id] = lane  # last in order: used most lately
        if len(self._lanes) > ACCOUNTS_MAX:
            unused = next((key for key, each in self._lanes.items() if not each.busy), None)
            if unused is not None and unused != account_id:
                await self._lanes.pop(unused).exchange.close()
        return lane

    def _exchange(self, line: Line) -> Exchange:
        if line.target is not None:
            return RpcExchange(line.target)
        return HttpExchange(self._tls, self._proxy, self.limits.concurrent_calls)

    async def _ask(
        self, call: Call, line: Line, lane: _Lane, deadline: float, records: list[CallRecord]
    ) -> Reply:
        """One call with the repeats that cannot have an effect of their own."""
        prepared = lane.exchange.prepare(call, line)
        connects = busy = 0
        in_use = False  # a 409 said that a request with this key is under way
        while True:
            reply = await self._once(call, prepared, lane, deadline, records)
            if isinstance(reply, Silence):
                if reply.phase is Phase.AFTER_SEND:
                    return reply
                if connects < CONNECT_REPEATS and await _pause(CONNECT_PAUSE_SECONDS, deadline):
                    connects += 1
                    continue
                # What an earlier request with this key came to is still open.
                return Silence(Phase.AFTER_SEND, reply.cause) if in_use else reply
            is_busy = reply.status in call.busy_statuses and call.safe_to_repeat
            if not is_busy and reply.status != 429:
                return reply
            in_use = in_use or is_busy
            wait = _retry_after(reply, BUSY_WAITS_SECONDS[min(busy, len(BUSY_WAITS_SECONDS) - 1)])
            busy += 1
            if busy > len(BUSY_WAITS_SECONDS) or not await _pause(wait, deadline):
                return Silence(Phase.AFTER_SEND, "its key is in use") if in_use else reply

    async def _once(
        self,
        call: Call,
        prepared: Prepared,
        lane: _Lane,
        deadline: float,
        records: list[CallRecord],
    ) -> Reply:
        left = deadline - time.monotonic()
        if left <= 0 or not await lane.enter(left):
            return Silence(Phase.BEFORE_SEND, "the time of this plan is up")
        begun = time.monotonic()
        seconds = min(call.timeout_seconds, self.limits.call_seconds_max, deadline - begun)
        try:
            reply = await lane.exchange.send(prepared, max(seconds, 0.001))
        finally:
            lane.leave()
        records.append(_record(call, prepared, reply, time.monotonic() - begun))
        return reply


class _Lane:
    """One provider account's connection, concurrency limit and token bucket."""

    def __init__(self, exchange: Exchange, limits: Limits) -> None:
        self.exchange = exchange
        self._slots = asyncio.Semaphore(limits.concurrent_calls)
        self._rate, self._burst = limits.calls_per_second, float(limits.burst)
        self._tokens, self._filled = self._burst, time.monotonic()
        self.busy = 0

    async def enter(self, seconds: float) -> bool:
        """Wait for a slot and a token; False where `seconds` pass first."""
        self.busy += 1
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
                try:
                    await self._take_token()
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            self.busy -= 1
            return False
        except BaseException:
            self.busy -= 1
            raise
        return True

    def leave(self) -> None:
        self.busy -= 1
        self._slots.release()

    async def _take_token(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        self._tokens -= 1
        if self._tokens < 0:
            # The debt is this caller's own wait; those behind it wait longer.
            await asyncio.sleep(-self._tokens / self._rate)


def _record(call: Call, prepared: Prepared, reply: Reply, seconds: float) -> CallRecord:
    digest = hashlib.sha256(prepared.content).hexdigest()
    duration_ms = int(seconds * 1000)
    if isinstance(reply, Silence):
        silence = f"{reply.phase.value}: {reply.cause}"
        return CallRecord(call.method, prepared.path, digest, duration_ms, silence=silence)
    return CallRecord(
        call.method,
        prepared.path,
        digest,
        duration_ms,
        status=reply.status,
        answer_digest=hashlib.sha256(reply.body).hexdigest(),
        provider_request_id=reply.headers.get("request-id", "")[:128],
    )


def _retry_after(answer: Answer, default: float) -> float:
    stated = answer.headers.get("retry-after", "")
    if stated.isascii() and stated.isdigit():
        return min(float(stated), RETRY_AFTER_SECONDS_MAX)
    return default


async def _pause(seconds: float, deadline: float) -> bool:
    """Wait, unless the plan's time would be up before the wait is."""
    if time.monotonic() + seconds >= deadline:
        return False
    await asyncio.sleep(seconds)
    return True
