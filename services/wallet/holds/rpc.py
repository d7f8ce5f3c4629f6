"""HoldService."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

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
    parse_increase,
    parse_void,
)
from wallet.ledger.domain.items import Item
from wallet.ledger.domain.outcomes import Outcome, Refused
from wallet.ledger.operations import Ledger
from wallet.ledger.store import Place
from wallet.ledger.wire import answered, check_count, clock_of, parse_id

W = TypeVar("W")
T = TypeVar("T", pb.CaptureItem, pb.IncreaseItem, pb.VoidItem)


class HoldService:
    """Value is set aside."""

    def __init__(self, ledger: Ledger, scales: Scales, database: Database) -> None:
        self._ledger = ledger
        self._scales = scales
        self._database = database

    async def PlaceHolds(self, request: pb.PlaceHoldsRequest, call: Call) -> pb.PlaceHoldsResponse:
        response = pb.PlaceHoldsResponse()
        for outcome in await self._place(request.items, call):
            fill_held(response.outcomes.add(), outcome)
        return response

    async def PlaceHold(self, request: pb.PlaceHoldRequest, call: Call) -> pb.PlaceHoldResponse:
        (outcome,) = await self._place([request.item], call)
        return pb.PlaceHoldResponse(**_held(outcome))

    async def IncreaseHolds(
        self, request: pb.IncreaseHoldsRequest, call: Call
    ) -> pb.IncreaseHoldsResponse:
        response = pb.IncreaseHoldsResponse()
        for outcome in await self._change(request.items, call, parse_increase):
            fill_held(response.outcomes.add(), outcome)
        return response

    async def IncreaseHold(
        self, request: pb.IncreaseHoldRequest, call: Call
    ) -> pb.IncreaseHoldResponse:
        (outcome,) = await self._change([request.item], call, parse_increase)
        return pb.IncreaseHoldResponse(**_held(outcome))

    async def CaptureHolds(
        self, request: pb.CaptureHoldsRequest, call: Call
    ) -> pb.CaptureHoldsResponse:
        response = pb.CaptureHoldsResponse()
        for outcome in await self._change(request.items, call, parse_capture):
            fill_debit(response.outcomes.add(), outcome)
        return response

    async def CaptureHold(
        self, request: pb.CaptureHoldRequest, call: Call
    ) -> pb.CaptureHoldResponse:
        (outcome,) = await self._change([request.item], call, parse_capture)
        answer = pb.DebitOutcome()
        fill_debit(answer, answered(outcome))
        return pb.CaptureHoldResponse(debit=answer.debit, replayed=answer.replayed)

    async def VoidHolds(self, request: pb.VoidHoldsRequest, call: Call) -> pb.VoidHoldsResponse:
        response = pb.VoidHoldsResponse()
        for outcome in await self._change(request.items, call, parse_void):
            fill_held(response.outcomes.add(), outcome)
        return response

    async def VoidHold(self, request: pb.VoidHoldRequest, call: Call) -> pb.VoidHoldResponse:
        (outcome,) = await self._change([request.item], call, parse_void)
        return pb.VoidHoldResponse(**_held(outcome))

    async def GetHold(self, request: pb.GetHoldRequest, call: Call) -> pb.GetHoldResponse:
        hold_id = parse_id(request.hold_id, "hold_id")
        async with self._database.transaction(call.tenant_id) as tx:
            hold = await store.find_hold(tx, call.tenant_id, hold_id, clock_of(call))
        if hold is None:
            raise NotFound("hold", hold_id)
        response = pb.GetHoldResponse()
        fill_hold(response.hold, hold)
        return response

    async def _place(self, items: Sequence[pb.HoldItem], call: Call) -> list[Outcome]:
        check_count(len(items))
        scales = await self._scales.of(call.tenant_id, {item.amount.asset for item in items})
        tenant_id, now = str(call.tenant_id), clock_of(call)
        return await self._apply(items, lambda item: parse_hold(item, tenant_id, scales, now))

    async def _change(
        self,
        items: Sequence[T],
        call: Call,
        parse: Callable[[T, str, Mapping[str, Place], datetime | None], Item],
    ) -> list[Outcome]:
        """What names a hold alone: where it belongs is looked up first."""
        check_count(len(items))
        tenant_id, now = str(call.tenant_id), clock_of(call)
        places = await self._places(tenant_id, [item.hold_id for item in items])
        return await self._apply(items, lambda item: parse(item, tenant_id, places, now))

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


def _held(outcome: Outcome) -> dict[str, Any]:
    """The fields of a single call's answer about a hold; raises what was refused."""
    answer = pb.HoldOutcome()
    fill_held(answer, answered(outcome))
    return {"hold": answer.hold, "replayed": answer.replayed, "available": answer.available}
