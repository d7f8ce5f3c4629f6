"""Carries a service's outbox to its Redis Stream: in order, at least once, whatever Redis forgets.

One relay per service is at work at a time, by a lease in the outbox's own schema; the others stand
by. Rows stay for a day after they were published, because the stream may be lost before their
consumers saw them. The schema remembers the last entry that was written: a stream that is behind it
was emptied, or restored from an older copy. Then, and when a consumer asks because its group is
gone, every row that is still kept is published again, and the consumers' inboxes drop what they
had.

The outbox is polled (20 ms after a busy round, 200 ms when idle) rather than woken by NOTIFY: a
transaction that notifies takes a lock on the whole server for the length of its commit, and with
it the commits of all lanes would queue behind one another instead of sharing one flush.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from chassis.database import Database, DatabaseUnavailable, OutcomeUnknown
from chassis.outbox import stream_name
from chassis.stopping import heed_cancellation
from chassis.trimming import has_room

BATCH_MAX = 500
LEASE_SECONDS = 10
BUSY_PAUSE_SECONDS = 0.02
IDLE_PAUSE_SECONDS = 0.2
AWAY_PAUSE_SECONDS = 1.0
TRIM_SECONDS = 5.0

OUTBOX_HOURS = 24  # longer than any outage that a consumer is expected to sleep through
INBOX_HOURS = 7 * 24  # longer than a message can come again
REQUEST_HOURS = 35 * 24  # as long as a repeated event is known
SWEEP_SECONDS = 3_600.0

# Adds entries only where the stream is not behind the entry it should end with; answers the last
# entry's id, or nothing where it was lost. One script, so that nothing comes in between.
_PUBLISH = """
local function parts(id)
    local a, b = string.match(id, '(%d+)-(%d+)')
    return tonumber(a), tonumber(b)
end
local last = '0-0'
local found = redis.pcall('XINFO', 'STREAM', KEYS[1])
if not found.err then
    for i = 1, #found, 2 do
        if found[i] == 'last-generated-id' then last = found[i + 1] end
    end
end
local a, b = parts(last)
local c, d = parts(ARGV[1])
if a < c or (a == c and b < d) then return false end
for i = 2, #ARGV, 6 do
    last = redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'tenant', ARGV[i + 1],
        'kind', ARGV[i + 2], 'payload', ARGV[i + 3], 'trace', ARGV[i + 4], 'time', ARGV[i + 5])
end
return last
"""

log = structlog.get_logger("chassis.relay")


def republish_key(service: str) -> str:
    """The key by which a consumer asks for everything that is still kept to be sent again."""
    return f"{stream_name(service)}:republish"


class Relay:
    """The relay of one service, for its `jobs`: `Job("relay", Relay(database, redis, "x").run)`."""

    def __init__(self, database: Database, redis: redis.asyncio.Redis, service: str) -> None:
        self._database = database
        self._redis = redis
        self._service = service
        self._stream = stream_name(service)
        self._id = uuid.uuid4()
        self._sweep_at = 0.0
        self._trim_at = 0.0
        self._room = True

    async def run(self) -> None:
        """Relay until cancelled. A database or a Redis that is away is waited for."""
        try:
            while True:
                pause = await self._turn()
                heed_cancellation()
                if pause:
                    await asyncio.sleep(pause)
        finally:
            await asyncio.shield(self._release())

    async def drain_once(self) -> int:
        """Publish one batch where this relay holds the lease; returns how many rows it was."""
        async with self._database.unscoped() as connection:
            last_entry = await connection.fetchval(
                "SELECT outbox_lease($1, $2)", self._id, LEASE_SECONDS
            )
            if last_entry is None:
                return 0
            count = BATCH_MAX if self._room else 0
            rows = await connection.fetch("SELECT * FROM outbox_pending($1)", count)
        # No database connection is held while Redis is spoken to.
        if await self._redis.exists(republish_key(self._service)):
            await self._reopen("a consumer asked")
            # After the rows are open again, so that dying in between asks once more.
            await self._redis.delete(republish_key(self._service))
            return 0
        entry = await self._publish(last_entry, rows)
        if entry is None:
            await self._reopen("the stream was lost")
            return 0
        if rows:
            async with self._database.unscoped() as connection:
                # Refused where another relay took over meanwhile: it may know of a loss that we
                # do not, and publishes these rows again.
                await connection.fetchval(
                    "SELECT outbox_mark_published($1, $2, $3)",
                    self._id,
                    [row["message_id"] for row in rows],
                    entry,
                )
        return len(rows)

    async def _turn(self) -> float:
        try:
            count = await self.drain_once()
            await self._trim_and_sweep_now_and_then()
        except (DatabaseUnavailable, OutcomeUnknown, RedisError, OSError) as error:
            log.warning("relay_waits", why=str(error) or type(error).__name__)
            return AWAY_PAUSE_SECONDS
        if count == BATCH_MAX:
            return 0.0
        return BUSY_PAUSE_SECONDS if count else IDLE_PAUSE_SECONDS

    async def _publish(self, last_entry: str, rows: Sequence[Any]) -> str | None:
        arguments: list[Any] = [last_entry]
        for row in rows:
            arguments += [
                row["message_id"].bytes,
                row["tenant_id"].bytes,
                row["kind"],
                row["payload"],
                row["trace"],
                row["create_time"].isoformat(),
            ]
        answer: Any = await self._redis.eval(_PUBLISH, 1, self._stream, *arguments)
        return None if answer is None else answer.decode()

    async def _reopen(self, why: str) -> None:
        async with self._database.unscoped() as connection:
            reopened = await connection.fetchval("SELECT outbox_reopen($1)", self._id)
        if reopened:
            log.warning("publishing_again", why=why, messages=reopened)

    async def _trim_and_sweep_now_and_then(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._trim_at:
            self._trim_at = now + TRIM_SECONDS
            self._room = await has_room(self._redis, self._stream)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            async with self._database.unscoped() as connection:
                await connection.execute(
                    "SELECT chassis_sweep($1, $2, $3)", OUTBOX_HOURS, INBOX_HOURS, REQUEST_HOURS
                )

    async def _release(self) -> None:
        try:
            async with self._database.unscoped() as connection:
                await connection.execute("SELECT outbox_release($1)", self._id)
        except DatabaseUnavailable:
            return  # the lease runs out by itself
