"""Hands other services' messages to handlers, each once, and loses none.

A message is done when its inbox row says so. A handler that changes this service's own tables makes
that exact by writing the row in its own transaction:

    async def on_payment(message: Message) -> None:
        async with database.transaction(message.tenant_id) as tx:
            if await consume_once(tx, message):
                …

Other handlers are repeated after a crash between their work and the row, which is written for up to
50 messages together, so their effects have keys of their own. A handler that fails is tried again
with growing pauses, from the inbox and no longer from the stream; after `ATTEMPTS_MAX` the message
is parked there with its error, until somebody calls `inbox_unpark`. Messages of one tenant are
handed over in the order of the stream, except that one which failed is overtaken by those behind.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import redis.asyncio
import structlog
from redis.exceptions import RedisError, ResponseError

from chassis.database import Connection, Database, DatabaseUnavailable, OutcomeUnknown
from chassis.outbox import Message, stream_name
from chassis.relay import republish_key
from chassis.stopping import heed_cancellation
from kernel.errors import Kind, Refusal

Handler = Callable[[Message], Awaitable[None]]

READ_MAX = 200
READ_BLOCK_MS = 1_000
TENANTS_AT_ONCE = 16
SETTLED_AT_ONCE = 50  # messages of a tenant per inbox commit: what a crash may have handled again
IDLE_MS_BEFORE_TAKING_OVER = 30_000  # a consumer that was silent so long about a message is dead
TAKE_OVER_SECONDS = 5.0
RETRY_POLL_SECONDS = 0.5
RETRY_LEASE_SECONDS = 60
ATTEMPTS_MAX = 12  # about an hour and a half
PAUSE_MAX = timedelta(minutes=15)
AWAY_PAUSE_SECONDS = 1.0
ERROR_LENGTH_MAX = 1_000

# A handler refused so is not poisoned: what it needs is away, for however long.
_PASSING = (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.EXHAUSTED)

log = structlog.get_logger("chassis.consumer")


class ConsumerPlatform(Protocol):
    """What a consumer uses of chassis.platform.Platform."""

    @property
    def service(self) -> str: ...
    @property
    def database(self) -> Database: ...
    @property
    def redis(self) -> redis.asyncio.Redis: ...


async def consume_once(tx: Connection, message: Message) -> bool:
    """Mark a message done in the handler's own transaction; False where it was done before.

    Of two workers that race, the second waits here until the first's transaction has ended.
    """
    return bool(await _mark_done(tx, [message]))


async def _mark_done(tx: Connection, messages: Sequence[Message]) -> list[asyncpg.Record]:
    """Mark messages of one tenant done; returns a row for each that was not done before."""
    return await tx.fetch(
        "INSERT INTO inbox AS i"
        " (tenant_id, message_id, source, kind, state, trace, message_create_time)"
        " SELECT $1, m.message_id, m.source, m.kind, 'DONE', m.trace, m.create_time"
        " FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])"
        " AS m (message_id, source, kind, trace, create_time)"
        " ORDER BY m.message_id"  # in one order, so that two workers never wait for each other
        " ON CONFLICT (tenant_id, message_id) DO UPDATE"
        " SET state = 'DONE', payload = NULL, next_attempt_time = NULL,"
        " update_time = clock_timestamp()"
        " WHERE i.state <> 'DONE' RETURNING i.message_id",
        messages[0].tenant_id,
        [message.message_id for message in messages],
        [message.source for message in messages],
        [message.kind for message in messages],
        [message.trace for message in messages],
        [message.create_time for message in messages],
    )


class Consumer:
    """One service's reading of others' streams, for its `jobs`.

    `handlers` gives each kind its handler; kinds in `ignored` are known and not wanted. A kind in
    neither is parked, so that a later release can still handle it.
    """

    def __init__(
        self,
        platform: ConsumerPlatform,
        stream_services: Sequence[str],
        handlers: Mapping[str, Handler],
        *,
        ignored: Iterable[str] = (),
    ) -> None:
        self._database = platform.database
        self._redis = platform.redis
        self._group = platform.service
        self._sources = {stream_name(service).encode(): service for service in stream_services}
        self._handlers = dict(handlers)
        self._ignored = frozenset(ignored)
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._take_over_at = 0.0
        self._interrupted = False

    async def run(self) -> None:
        """Consume until cancelled. A database or a Redis that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_on(self._read_streams, 0.0))
            tasks.create_task(self._keep_on(self._retry_due, RETRY_POLL_SECONDS))

    async def _keep_on(self, step: Callable[[], Awaitable[None]], pause: float) -> None:
        while True:
            heed_cancellation()
            try:
                await step()
                heed_cancellation()
                await asyncio.sleep(pause)
            except (DatabaseUnavailable, OutcomeUnknown, RedisError, OSError) as error:
                log.warning("consumer_waits", why=str(error) or type(error).__name__)
                self._interrupted = True
                await asyncio.sleep(AWAY_PAUSE_SECONDS)

    # --- from the streams ---------------------------------------------------------------------

    async def _read_streams(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            if now >= self._take_over_at:
                self._take_over_at = now + TAKE_OVER_SECONDS
                for stream in self._sources:
                    await self._take_over(stream)
            # After an interruption, what was handed to us and not settled comes first.
            again = self._interrupted
            read: Any = await self._redis.xreadgroup(
                self._group,
                self._name,
                dict.fromkeys(self._sources, "0" if again else ">"),
                count=READ_MAX,
                block=READ_BLOCK_MS,
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            await self._make_groups()
            return
        pairs = [(stream, entries) for stream, entries in _pairs(read) if entries]
        for stream, entries in pairs:
            await self._hand_over(stream, entries)
        if again and not pairs:
            self._interrupted = False

    async def _make_groups(self) -> None:
        for stream, service in self._sources.items():
            try:
                await self._redis.xgroup_create(stream, self._group, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
                continue
            # The group is new, or Redis lost it and with it what it had not read yet: the sender
            # publishes again all that it still keeps.
            await self._redis.set(republish_key(service), self._group)

    async def _take_over(self, stream: bytes) -> None:
        """Take what dead consumers left unacknowledged."""
        answer: Any = await self._redis.xautoclaim(
            stream,
            self._group,
            self._name,
            min_idle_time=IDLE_MS_BEFORE_TAKING_OVER,
            count=READ_MAX,
        )
        await self._hand_over(stream, answer[1])

    async def _hand_over(self, stream: bytes, entries: Sequence[tuple[bytes, Any]]) -> None:
        by_tenant: dict[UUID, list[tuple[bytes, Message]]] = defaultdict(list)
        for entry_id, fields in entries:
            message = _parse(fields, self._sources[stream]) if fields else None
            if message is None:
                # Deleted meanwhile, or written by a stranger; nothing that an outbox sent.
                log.error("entry_is_no_message", stream=stream.decode(), entry=entry_id)
                await self._redis.xack(stream, self._group, entry_id)
            else:
                by_tenant[message.tenant_id].append((entry_id, message))
        gate = asyncio.Semaphore(TENANTS_AT_ONCE)

        async def one_tenant(messages: list[tuple[bytes, Message]]) -> None:
            async with gate:
                for start in range(0, len(messages), SETTLED_AT_ONCE):
                    chunk = messages[start : start + SETTLED_AT_ONCE]
                    await self._settle([message for _, message in chunk])
                    # Only when the inbox has them, one way or another, may the stream forget them.
                    await self._redis.xack(stream, self._group, *(entry for entry, _ in chunk))

        results = await asyncio.gather(*map(one_tenant, by_tenant.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # --- from the inbox -----------------------------------------------------------------------

    async def _retry_due(self) -> None:
        async with self._database.unscoped() as connection:
            rows = await connection.fetch(
                "SELECT * FROM inbox_due($1, $2)", READ_MAX, RETRY_LEASE_SECONDS
            )
        for row in rows:
            message = Message(
                message_id=row["message_id"],
                tenant_id=row["tenant_id"],
                kind=row["kind"],
                payload=bytes(row["payload"]),
                create_time=row["message_create_time"],
                trace=row["trace"],
                source=row["source"],
            )
            if await self._attempt(message):
                await self._finish([message])

    # --- one tenant's messages ----------------------------------------------------------------

    async def _settle(self, messages: Sequence[Message]) -> None:
        """Bring each message of one tenant into the inbox: done, to be retried, or parked."""
        # A message that came twice is one.
        wanted = {m.message_id: m for m in messages if m.kind not in self._ignored}
        if not wanted:
            return
        tenant_id = messages[0].tenant_id
        async with self._database.transaction(tenant_id) as tx:
            rows = await tx.fetch(
                "SELECT message_id FROM inbox WHERE tenant_id = $1 AND message_id = ANY ($2)",
                tenant_id,
                list(wanted),
            )
        for row in rows:
            del wanted[row["message_id"]]
        handled = [message for message in wanted.values() if await self._attempt(message)]
        await self._finish(handled)

    async def _finish(self, handled: Sequence[Message]) -> None:
        if handled:
            async with self._database.transaction(handled[0].tenant_id) as tx:
                await _mark_done(tx, handled)

    async def _attempt(self, message: Message) -> bool:
        """Hand a message over; False where it failed and was put aside."""
        handler = self._handlers.get(message.kind)
        if handler is None:
            await self._put_aside(message, "no handler for this kind", parked=True, passing=False)
            return False
        try:
            await handler(message)
        except Exception as error:
            passing = isinstance(error, Refusal) and error.kind in _PASSING
            log.warning(
                "handler_failed", kind=message.kind, message_id=str(message.message_id),
                passing=passing, exc_info=None if passing else error,
            )  # fmt: skip
            words = f"{type(error).__name__}: {error}"[:ERROR_LENGTH_MAX]
            await self._put_aside(message, words, parked=False, passing=passing)
            return False
        return True

    async def _put_aside(
        self, message: Message, error: str, *, parked: bool, passing: bool
    ) -> None:
        """Keep a message that could not be handled: for a later attempt, or parked."""
        async with self._database.transaction(message.tenant_id) as tx:
            before = await tx.fetchval(
                "SELECT attempts FROM inbox WHERE tenant_id = $1 AND message_id = $2 FOR UPDATE",
                message.tenant_id,
                message.message_id,
            )
            attempts = (before or 0) + 1
            parked = parked or (attempts >= ATTEMPTS_MAX and not passing)
            await tx.execute(
                "INSERT INTO inbox AS i (tenant_id, message_id, source, kind, state, attempts,"
                " error, payload, trace, message_create_time, next_attempt_time)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp() + $11)"
                " ON CONFLICT (tenant_id, message_id) DO UPDATE SET state = excluded.state,"
                " attempts = excluded.attempts, error = excluded.error,"
                " next_attempt_time = excluded.next_attempt_time, update_time = clock_timestamp()"
                " WHERE i.state <> 'DONE'",
                message.tenant_id,
                message.message_id,
                message.source,
                message.kind,
                "PARKED" if parked else "RETRYING",
                attempts,
                error,
                message.payload,
                message.trace,
                message.create_time,
                pause_after(attempts),
            )
        if parked:
            log.error("message_parked", kind=message.kind, message_id=str(message.message_id))


def pause_after(attempts: int) -> timedelta:
    """The pause before the next attempt: 1 s, doubled each time, 15 minutes at most."""
    return min(timedelta(seconds=2 ** min(attempts - 1, 20)), PAUSE_MAX)


def _pairs(read: Any) -> list[tuple[bytes, list[tuple[bytes, Any]]]]:
    # RESP2 answers a list of pairs, RESP3 a mapping to lists of lists; None is silence.
    if not read:
        return []
    if isinstance(read, Mapping):
        return [(stream, entries[0] if entries else []) for stream, entries in read.items()]
    return [(stream, entries) for stream, entries in read]


def _parse(fields: Mapping[bytes, bytes], source: str) -> Message | None:
    try:
        return Message(
            message_id=UUID(bytes=fields[b"id"]),
            tenant_id=UUID(bytes=fields[b"tenant"]),
            kind=fields[b"kind"].decode(),
            payload=fields[b"payload"],
            create_time=datetime.fromisoformat(fields[b"time"].decode()).astimezone(UTC),
            trace=fields[b"trace"].decode(),
            source=source,
        )
    except (KeyError, ValueError):
        return None
