"""DebitService."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.call import Call
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.assets.operations import Scales
from wallet.debits.wire import fill_debit, group_debits, read_debit
from wallet.ledger.domain.items import DebitItem
from wallet.ledger.domain.outcomes import Outcome
from wallet.ledger.operations import Ledger
from wallet.ledger.wire import answered, check_count, clock_of


class DebitService:
    """Value is used."""

    def __init__(self, ledger: Ledger, scales: Scales) -> None:
        self._ledger = ledger
        self._scales = scales

    async def PostDebits(self, request: pb.PostDebitsRequest, call: Call) -> pb.PostDebitsResponse:
        response = pb.PostDebitsResponse()
        add = response.outcomes.add
        for outcome in await self._post(request.items, call):
            fill_debit(add(), outcome)
        return response

    async def PostDebit(self, request: pb.PostDebitRequest, call: Call) -> pb.PostDebitResponse:
        (outcome,) = await self._post([request.item], call)
        answer = pb.DebitOutcome()
        fill_debit(answer, answered(outcome))
        return pb.PostDebitResponse(debit=answer.debit, replayed=answer.replayed)

    async def _post(self, items: Sequence[pb.DebitItem], call: Call) -> list[Outcome]:
        check_count(len(items))
        scales = await self._scales.of(call.tenant_id, {item.amount.asset for item in items})
        tenant_id, now = str(call.tenant_id), clock_of(call)
        parsed = [read_debit(item, tenant_id, scales, now) for item in items]
        bundles, refused = group_debits(items, parsed)
        answers = await self._ledger.apply(
            [
                tuple([item for i in bundle if isinstance(item := parsed[i], DebitItem)])
                for bundle in bundles
            ]
        )
        outcomes: dict[int, Outcome] = dict(refused)
        for bundle, answers_of_it in zip(bundles, answers, strict=True):
            outcomes.update(zip(bundle, answers_of_it, strict=True))
        return [outcomes[position] for position in range(len(items))]
