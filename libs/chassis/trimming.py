"""Keeps a stream short without taking from anybody what he has not read.

What every group has acknowledged goes. A stream that is still too long then has a group that lags:
where its consumers live, the outbox keeps what comes next until they catch up; where all of them
have been silent, the group itself goes. Should they return, they find it gone, make it anew and ask
for everything that the outbox still keeps.
"""

from __future__ import annotations

from typing import Any

import redis.asyncio
import structlog
from redis.exceptions import ResponseError

STREAM_LENGTH_MAX = 200_000  # some 100 MB of messages
LENGTH_WITHOUT_READERS = 1_000
SILENT_MS_MAX = 10 * 60 * 1_000  # a live consumer is heard every second

log = structlog.get_logger("chassis.relay")


async def has_room(client: redis.asyncio.Redis, stream: str) -> bool:
    """Trim a stream; answers whether more may be added."""
    try:
        groups: Any = await client.xinfo_groups(stream)
    except ResponseError:  # there is no stream yet
        return True
    if not groups:
        # A group that comes later asks for what is kept; nothing here is anybody's yet.
        await client.xtrim(stream, maxlen=LENGTH_WITHOUT_READERS, approximate=True)
        return True
    floors = [(await _first_needed(client, stream, group), group["name"]) for group in groups]
    floor, slowest = min(floors, key=lambda found: _order(found[0]))
    await client.xtrim(stream, minid=floor, approximate=True)
    if await client.xlen(stream) < STREAM_LENGTH_MAX:
        return True
    if not await _is_silent(client, stream, slowest):
        return False
    log.warning("silent_group_removed", stream=stream, group=slowest.decode())
    await client.xgroup_destroy(stream, slowest)
    return True


async def _first_needed(client: redis.asyncio.Redis, stream: str, group: Any) -> str:
    if group["pending"]:
        pending: Any = await client.xpending(stream, group["name"])
        if pending["min"] is not None:
            return str(pending["min"].decode())
    return str(group["last-delivered-id"].decode())


async def _is_silent(client: redis.asyncio.Redis, stream: str, group: bytes) -> bool:
    consumers: Any = await client.xinfo_consumers(stream, group)
    return all(consumer["idle"] > SILENT_MS_MAX for consumer in consumers)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
