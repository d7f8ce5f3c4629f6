"""Calls to the wallet: scales of assets, debits, holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from chassis.call import Call
from chassis.peers import Peers
from kernel.errors import Kind, Refusal
from metering.charging.domain import (
    DEBITS_PER_CALL_MAX,
    Debit,
    Held,
    HoldGrowth,
    HoldRequest,
    Posted,
    Refused,
    Reversal,
    chunks_of,
)
from metering.charging.wire import (
    parse_debit_outcome,
    parse_hold_outcome,
    parse_reversal_outcome,
    render_debit,
    render_hold_growth,
    render_hold_request,
    render_reversal,
)
from tollgate.wallet.v1 import (
    adjustment_service_pb2,
    adjustment_service_pb2_grpc,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    wallet_service_pb2,
    wallet_service_pb2_grpc,
)

HOLDS_PER_CALL_MAX = 1_000
DEBIT_SECONDS_MAX = 5.0  # then the recovery job goes on, by key
ASSET_PAGE_SIZE = 1_000


class WalletAway(Refusal):
    """The wallet did not answer; what was asked may have been done, and is asked again by key."""

    reason = "UNAVAILABLE"
    kind = Kind.UNAVAILABLE


class WalletRefusedCall(Exception):
    """The wallet refused a call as a whole, which no call of ours gives it reason to: a fault."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Wallet:
    """The wallet service on behalf of tenants."""

    def __init__(self, peers: Peers) -> None:
        channel = peers.channel("wallet")
        self._peers = peers
        self._debits = ledger_service_pb2_grpc.DebitServiceStub(channel)
        self._holds = ledger_service_pb2_grpc.HoldServiceStub(channel)
        self._adjustments = adjustment_service_pb2_grpc.AdjustmentServiceStub(channel)
        self._assets = wallet_service_pb2_grpc.AssetServiceStub(channel)
        self._scales: dict[tuple[UUID, str], int] = {}

    async def scales_of(
        self, tenant_id: UUID, codes: set[str], call: Call | None
    ) -> dict[str, int]:
        """Decimal places of the assets that exist; an asset never changes, so they are kept."""
        known = {code: self._scales.get((tenant_id, code)) for code in codes}
        if None in known.values():
            await self._read_assets(tenant_id, call)
            known = {code: self._scales.get((tenant_id, code)) for code in codes}
        return {code: scale for code, scale in known.items() if scale is not None}

    async def _read_assets(self, tenant_id: UUID, call: Call | None) -> None:
        token = ""
        while True:
            answer: wallet_service_pb2.ListAssetsResponse = await self._peers.call(
                self._assets.ListAssets,
                wallet_service_pb2.ListAssetsRequest(page_size=ASSET_PAGE_SIZE, page_token=token),
                tenant_id=tenant_id,
                call=call,
            )
            for asset in answer.assets:
                self._scales[tenant_id, asset.code] = asset.scale
            token = answer.next_page_token
            if not token:
                return

    async def post_debits(
        self, tenant_id: UUID, debits: Sequence[Debit], call: Call | None
    ) -> list[Posted | Refused]:
        """Post debits, at most 1000 in one call; groups are never parted.

        Raises WalletAway where a call brought no answer: earlier calls may have been posted, and
        repeating all of them by key gives the same answers.
        """
        answers: list[Posted | Refused] = []
        for chunk in chunks_of(debits):
            request = ledger_service_pb2.PostDebitsRequest(
                items=[render_debit(debit) for debit in chunk]
            )
            answer = await self._ask(self._debits.PostDebits, request, tenant_id, call)
            answers.extend(
                parse_debit_outcome(outcome, debit.scale)
                for outcome, debit in zip(answer.outcomes, chunk, strict=True)
            )
        return answers

    async def reverse_debits(
        self, tenant_id: UUID, reversals: Sequence[Reversal], call: Call | None
    ) -> list[Posted | Refused]:
        """Give parts of posted debits back to where they came from. Raises WalletAway; repeating
        all of them by key gives the same answers."""
        answers: list[Posted | Refused] = []
        for start in range(0, len(reversals), DEBITS_PER_CALL_MAX):
            chunk = reversals[start : start + DEBITS_PER_CALL_MAX]
            request = adjustment_service_pb2.ReverseDebitsRequest(
                items=[render_reversal(reversal) for reversal in chunk]
            )
            answer = await self._ask(self._adjustments.ReverseDebits, request, tenant_id, call)
            answers.extend(
                parse_reversal_outcome(outcome, reversal.scale)
                for outcome, reversal in zip(answer.outcomes, chunk, strict=True)
            )
        return answers

    async def place_holds(
        self, tenant_id: UUID, holds: Sequence[HoldRequest], call: Call | None
    ) -> list[Held | Refused]:
        """Place holds, each fits or is refused. Raises WalletAway."""
        answers: list[Held | Refused] = []
        for start in range(0, len(holds), HOLDS_PER_CALL_MAX):
            chunk = holds[start : start + HOLDS_PER_CALL_MAX]
            request = ledger_service_pb2.PlaceHoldsRequest(
                items=[render_hold_request(hold) for hold in chunk]
            )
            answer = await self._ask(self._holds.PlaceHolds, request, tenant_id, call)
            answers.extend(
                parse_hold_outcome(outcome, hold.scale)
                for outcome, hold in zip(answer.outcomes, chunk, strict=True)
            )
        return answers

    async def increase_holds(
        self, tenant_id: UUID, growths: Sequence[HoldGrowth], call: Call | None
    ) -> list[Held | Refused]:
        """Set more aside under holds, let them last longer, or both. Raises WalletAway."""
        if not growths:
            return []
        request = ledger_service_pb2.IncreaseHoldsRequest(
            items=[render_hold_growth(growth) for growth in growths]
        )
        answer = await self._ask(self._holds.IncreaseHolds, request, tenant_id, call)
        return [
            parse_hold_outcome(outcome, growth.scale)
            for outcome, growth in zip(answer.outcomes, growths, strict=True)
        ]

    async def void_holds(self, tenant_id: UUID, hold_ids: Sequence[str], call: Call | None) -> None:
        """Release holds; releasing one again changes nothing. Raises WalletAway."""
        for start in range(0, len(hold_ids), HOLDS_PER_CALL_MAX):
            items = [
                ledger_service_pb2.VoidItem(request_id=f"void:{hold_id}", hold_id=hold_id)
                for hold_id in hold_ids[start : start + HOLDS_PER_CALL_MAX]
            ]
            request = ledger_service_pb2.VoidHoldsRequest(items=items)
            await self._ask(self._holds.VoidHolds, request, tenant_id, call)

    async def _ask(
        self, method: Callable[..., Any], request: Any, tenant_id: UUID, call: Call | None
    ) -> Any:
        # A batch serves many callers: none of their deadlines is the batch's.
        if call is not None:
            deadline = asyncio.get_running_loop().time() + DEBIT_SECONDS_MAX
            call = replace(call, deadline=deadline)
        try:
            return await self._peers.call(
                method, request, tenant_id=tenant_id, timeout=DEBIT_SECONDS_MAX, call=call
            )
        except Refusal as refusal:
            if refusal.kind in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.EXHAUSTED):
                raise WalletAway(f"the wallet: {refusal.message}", what="wallet") from refusal
            raise WalletRefusedCall(f"{refusal.reason}: {refusal.message}") from refusal
