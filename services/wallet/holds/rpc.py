"""HoldService."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from chassis.call import Call
from chassis.database import Database
from kernel.errors import NotFound, Refusal
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.assets.operations import Scales
from wallet.debits.wire import fill_debit
from wallet.holds import store
from wallet.holds.wire import (
    fill_held,
    fill_hold,
    parse_capture,
    parse_hold,
    parse_void,
)
from wallet.ledger.domain.items import Item
from wallet.ledger.domain.outcomes import Outcome, Refused
from wallet.ledger.operations import Ledger
from wallet.ledger.store import Place
from wallet.ledger.wire import check_count, clock_of, parse_id

W = TypeVar("W")


class HoldService:
    """Value is set aside."""

    def __init__(self, ledger: Ledger, scales: Scales, database: Database) -> None:
        self._ledger = ledger
        self._scales = scales
        self._database = database

    async def PlaceHolds(self, request: pb.PlaceHoldsRequest, call: Call) -> pb.PlaceHoldsResponse:
        check_count(len(request.items))
        codes = {item.amount.asset for item in request.items}
        scales = await self._scales.of(call.tenant_id, codes)
        tenant_id, now = str(call.tenant_id), clock_of(call)
        outcomes = await self._apply(
            request.items, lambda item: parse_hold(item, tenant_id, scales, now)
        )
        response = pb.PlaceHoldsResponse()
        for outcome in outcomes:
            fill_held(response.outcomes.add(), outcome)
        return response

    async def CaptureHolds(
        self, request: pb.CaptureHoldsRequest, call: Call
    ) -> pb.CaptureHoldsResponse:
        check_count(len(request.items))
        tenant_id, now = str(call.tenant_id), clock_of(call)
        places = await self._places(tenant_id, [item.hold_id for item in request.items])
        outcomes = await self._apply(
            request.items, lambda item: parse_capture(item, tenant_id, places, now)
        )
        response = pb.CaptureHoldsResponse()
        for outcome in outcomes:
            fill_debit(response.outcomes.add(), outcome)
        return response

    async def VoidHolds(self, request: pb.VoidHoldsRequest, call: Call) -> pb.VoidHoldsResponse:
        check_count(len(request.items))
        tenant_id, now = str(call.tenant_id), clock_of(call)
        places = await self._places(tenant_id, [item.hold_id for item in request.items])
        outcomes = await self._apply(
            request.items, lambda item: parse_void(item, tenant_id, places, now)
        )
        response = pb.VoidHoldsResponse()
        for outcome in outcomes:
            fill_held(response.outcomes.add(), outcome)
        return response

    async def GetHold(self, request: pb.GetHoldRequest, call: Call) -> pb.GetHoldResponse:
        hold_id = parse_id(request.hold_id, "hold_id")
        async with self._database.transaction(call.tenant_id) as tx:
            hold = await store.find_hold(tx, call.tenant_id, hold_id, clock_of(call))
        if hold is None:
            raise NotFound("hold", hold_id)
        response = pb.GetHoldResponse()
        fill_hold(response.hold, hold)
        return response

    async def _apply(self, items: Iterable[W], parse: Callable[[W], Item]) -> list[Outcome]:
        """Parse and apply items; those that do not parse are refused in their place."""
        refused: list[Refused | None] = []
        parsed: list[Item] = []
        for item in items:
            try:
                parsed.append(parse(item))
                refused.append(None)
            except Refusal as refusal:
                refused.append(Refused.by(refusal))
        answers = iter(await self._ledger.apply_items(parsed))
        return [no or next(answers) for no in refused]

    async def _places(self, tenant_id: str, hold_ids: list[str]) -> Mapping[str, Place]:
        ids = []
        for hold_id in hold_ids:
            try:
                ids.append(parse_id(hold_id, "hold_id"))
            except Refusal:
                continue  # refused as its item is parsed
        return await self._ledger.routes.find_holds(tenant_id, ids)
