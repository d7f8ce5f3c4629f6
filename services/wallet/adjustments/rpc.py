"""AdjustmentService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.requests import claim, record
from chassis.wire import parse_request_id, parse_time, render_time
from kernel.errors import InvalidValue
from tollgate.wallet.v1 import adjustment_service_pb2 as pb
from wallet.adjustments import store
from wallet.adjustments.operations import DebitReversal, DebitReversals
from wallet.adjustments.wire import (
    parse_correction,
    parse_reversal,
    parse_transfer_id,
    read_reversals,
    render_adjustment,
    render_corrected,
    render_debit_detail,
    render_reversed,
    render_reversed_debit,
)
from wallet.assets.operations import Scales
from wallet.ledger.domain.items import WalletItem
from wallet.ledger.domain.outcomes import Outcome, Refused
from wallet.ledger.operations import Ledger
from wallet.ledger.wire import answered, check_count, find_id


class AdjustmentService:
    """What is done by hand to the books."""

    def __init__(self, ledger: Ledger, scales: Scales, database: Database) -> None:
        self._ledger = ledger
        self._scales = scales
        self._database = database
        self._debits = DebitReversals(ledger, database)

    async def ReverseTransfer(
        self, request: pb.ReverseTransferRequest, call: Call
    ) -> pb.ReverseTransferResponse:
        wallet_id, sequence = parse_transfer_id(request.transfer_id)
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.find_transfer(tx, call.tenant_id, wallet_id, sequence)
        return render_reversed(await self._apply(parse_reversal(request, call, found)))

    async def ReverseDebits(
        self, request: pb.ReverseDebitsRequest, call: Call
    ) -> pb.ReverseDebitsResponse:
        check_count(len(request.items))
        keys = [item.debit_request_id for item in request.items]
        debits = await self._debits.find(call.tenant_id, keys)
        read = read_reversals(request.items, call, debits)
        wanted = [one for one in read if isinstance(one, DebitReversal)]
        applied = iter(await self._debits.apply(call.tenant_id, wanted, debits))
        outcomes = [one if isinstance(one, Refused) else next(applied) for one in read]
        return pb.ReverseDebitsResponse(
            outcomes=[render_reversed_debit(outcome) for outcome in outcomes]
        )

    async def GetDebits(self, request: pb.GetDebitsRequest, call: Call) -> pb.GetDebitsResponse:
        check_count(len(request.request_ids))
        found = await self._debits.describe(call.tenant_id, request.request_ids)
        return pb.GetDebitsResponse(debits=[render_debit_detail(detail) for detail in found])

    async def CorrectBalance(
        self, request: pb.CorrectBalanceRequest, call: Call
    ) -> pb.CorrectBalanceResponse:
        scales = await self._scales.of(call.tenant_id, {request.amount.asset})
        return render_corrected(await self._apply(parse_correction(request, call, scales)))

    async def ListAdjustments(
        self, request: pb.ListAdjustmentsRequest, call: Call
    ) -> pb.ListAdjustmentsResponse:
        wallet_id = find_id(request.wallet_id, "wallet_id")
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = page.after[0] if page.after else ""
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_adjustments(
                tx, call.tenant_id, wallet_id, after, page.size + 1
            )
        more = len(found) > page.size
        found = found[: page.size]
        return pb.ListAdjustmentsResponse(
            adjustments=[render_adjustment(adjustment) for adjustment in found],
            next_page_token=next_token(found[-1].request_id) if more else "",
        )

    async def CloseAccountingPeriod(
        self, request: pb.CloseAccountingPeriodRequest, call: Call
    ) -> pb.CloseAccountingPeriodResponse:
        parse_request_id(request.request_id)
        through = parse_time(request, "through_time")
        if through > call.now:
            raise InvalidValue("through_time", "is in the future")
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.CloseAccountingPeriodResponse.FromString(recorded)
            closed = await store.close_period(tx, call.tenant_id, through)
            response = pb.CloseAccountingPeriodResponse(through_time=render_time(closed))
            await record(tx, call.tenant_id, request.request_id, response)
            return response

    async def _apply(self, item: WalletItem) -> Outcome:
        await self._ledger.routes.find_wallets(item.tenant_id, [item.wallet_id])
        (outcome,) = await self._ledger.apply_items([item])
        return answered(outcome)
