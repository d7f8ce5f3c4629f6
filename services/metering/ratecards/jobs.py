"""Watches invoicing's stream, and forgets the cards that it says have changed."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from metering.ratecards.operations import RateCards
from tollgate.invoicing.v1 import messages_pb2

READ_MAX = 1_000
BLOCK_MS = 1_000
AWAY_SECONDS = 1.0
KIND = b"rate_card.changed"

log = structlog.get_logger("metering.cards")


class CardWatch:
    """Reads the stream from now on, without a group: what is missed grows old by itself."""

    def __init__(self, client: redis.asyncio.Redis, stream: str, cards: RateCards) -> None:
        self._redis = client
        self._stream = stream
        self._cards = cards

    async def run(self) -> None:
        """Until cancelled. A Redis that is away is waited for."""
        last: bytes | str = "$"
        while True:
            try:
                read: Any = await self._redis.xread(
                    {self._stream: last}, count=READ_MAX, block=BLOCK_MS
                )
            except (RedisError, OSError) as error:
                log.warning("cards_unwatched", why=str(error) or type(error).__name__)
                await asyncio.sleep(AWAY_SECONDS)
                last = "$"
                # Whatever was said meanwhile was not heard.
                self._cards.forget_all()
                continue
            for _, entries in read or []:
                for identifier, fields in entries:
                    last = identifier
                    self._hear(fields)

    def _hear(self, fields: dict[bytes, bytes]) -> None:
        if fields.get(b"kind") != KIND:
            return
        message = messages_pb2.RateCardChanged.FromString(fields[b"payload"])
        self._cards.forget(UUID(bytes=fields[b"tenant"]), message.customer_id)
