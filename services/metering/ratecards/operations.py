"""Asks invoicing for rate cards, in batches, and keeps them until they change or are old."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.call import Call
from chassis.peers import Peers
from metering.ratecards.domain import RateCard
from metering.ratecards.wire import parse_rate_card
from tollgate.invoicing.v1 import catalog_pb2, catalog_pb2_grpc

KEPT_SECONDS = 30.0  # how old a card may be although no message said that it changed
CARDS_MAX = 200_000  # kept at once; beyond that, all are asked for again
ASKED_MAX = 1_000  # customers in one question


@dataclass(frozen=True, slots=True)
class _Kept:
    card: RateCard
    until: float
    clock_version: int


class RateCards:
    """The cache of rate cards. Unknown customers, and cards without prices, are not kept."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._kept: dict[tuple[UUID, str], _Kept] = {}
        self._changes = 0  # told by messages so far
        self._stub: catalog_pb2_grpc.CatalogServiceStub | None = None

    async def of(
        self, tenant_id: UUID, customer_ids: Iterable[str], call: Call
    ) -> dict[str, RateCard]:
        """The cards of those customers whom invoicing knows; the others are left out.

        Raises RemoteRefusal where invoicing does not answer and a card is missing.
        """
        now = time.monotonic()
        found: dict[str, RateCard] = {}
        missing: list[str] = []
        for customer_id in customer_ids:
            kept = self._kept.get((tenant_id, customer_id))
            # A test clock that moved may have moved the customer into other prices.
            if (
                kept is None
                or kept.until < now
                or kept.clock_version < call.clock_version
                or (kept.card.valid_until is not None and kept.card.valid_until <= call.now)
            ):
                missing.append(customer_id)
            else:
                found[customer_id] = kept.card
        for start in range(0, len(missing), ASKED_MAX):
            await self._ask(tenant_id, missing[start : start + ASKED_MAX], call, found)
        return found

    async def _ask(
        self, tenant_id: UUID, customer_ids: Sequence[str], call: Call, found: dict[str, RateCard]
    ) -> None:
        if self._stub is None:
            self._stub = catalog_pb2_grpc.CatalogServiceStub(self._peers.channel("invoicing"))
        asked, changes = time.monotonic(), self._changes
        answer: catalog_pb2.GetRateCardsResponse = await self._peers.call(
            self._stub.GetRateCards,
            catalog_pb2.GetRateCardsRequest(customer_ids=customer_ids),
            tenant_id=tenant_id,
            call=call,
        )
        if len(self._kept) >= CARDS_MAX:
            self._kept.clear()
        for message in answer.rate_cards:
            if not message.known:
                continue
            card = parse_rate_card(message)
            found[card.customer_id] = card
            # An answer may be older than a message that overtook it: then it is used once.
            if card.entries and changes == self._changes:
                kept = _Kept(card, asked + KEPT_SECONDS, call.clock_version)
                self._kept[tenant_id, card.customer_id] = kept

    def forget(self, tenant_id: UUID, customer_id: str) -> None:
        """Ask again for one customer's card when it is next needed."""
        self._changes += 1
        self._kept.pop((tenant_id, customer_id), None)

    def forget_all(self) -> None:
        """Ask again for every card: messages may have been missed."""
        self._changes += 1
        self._kept.clear()
