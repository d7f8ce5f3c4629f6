"""CorrectionService."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from kernel.errors import InvalidValue, NotFound, Refusal
from metering.charging.domain import batch_of
from metering.corrections.domain.rendering import outcome_of_refusal
from metering.corrections.domain.revision import Correction, CorrectionOutcome, RevisionKind
from metering.corrections.operations import Corrections, load_histories, tell_revisions
from metering.corrections.wire import (
    check_count,
    parse_amendment,
    parse_deprecation,
    render_original,
    render_outcome,
    render_revision,
)
from metering.events import store as events
from metering.events.domain.rendering import outcome_of_stored
from metering.usage import store as usage
from tollgate.metering.v1 import correction_pb2

Item = TypeVar("Item", correction_pb2.Amendment, correction_pb2.Deprecation)


class CorrectionService:
    """Answers the RPCs of tollgate.metering.v1.CorrectionService."""

    def __init__(self, database: Database, corrections: Corrections) -> None:
        self._database = database
        self._corrections = corrections

    async def AmendEvents(
        self, request: correction_pb2.AmendEventsRequest, call: Call
    ) -> correction_pb2.AmendEventsResponse:
        outcomes = await self._apply(
            request.items,
            lambda item, field: parse_amendment(item, field, call.now),
            lambda item: item.event.event_id,
            call,
        )
        return correction_pb2.AmendEventsResponse(outcomes=[render_outcome(o) for o in outcomes])

    async def DeprecateEvents(
        self, request: correction_pb2.DeprecateEventsRequest, call: Call
    ) -> correction_pb2.DeprecateEventsResponse:
        outcomes = await self._apply(
            request.items, parse_deprecation, lambda item: item.event_id, call
        )
        return correction_pb2.DeprecateEventsResponse(
            outcomes=[render_outcome(o) for o in outcomes]
        )

    async def _apply(
        self,
        items: Sequence[Item],
        parse: Callable[[Item, str], Correction],
        name_of: Callable[[Item], str],
        call: Call,
    ) -> list[CorrectionOutcome]:
        check_count(len(items))
        outcomes: dict[int, CorrectionOutcome] = {}
        wanted: dict[int, Correction] = {}
        for index, item in enumerate(items):
            try:
                wanted[index] = parse(item, f"items[{index}]")
            except Refusal as refusal:
                named = Correction("", RevisionKind.DEPRECATION, name_of(item), None, "", b"", "")
                outcomes[index] = outcome_of_refusal(named, refusal)
        applied = await self._corrections.apply(list(wanted.values()), call)
        outcomes.update(zip(wanted, applied, strict=True))
        return [outcomes[index] for index in range(len(items))]

    async def ListEventRevisions(
        self, request: correction_pb2.ListEventRevisionsRequest, call: Call
    ) -> correction_pb2.ListEventRevisionsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        start = _number(page.after[0]) + 1 if page.after else 0
        tenant_id = call.tenant_id
        async with self._database.transaction(tenant_id) as tx:
            histories = await load_histories(tx, tenant_id, [request.event_id])
            if request.event_id not in histories:
                raise NotFound("event", request.event_id)
            history = histories[request.event_id]
            origin = history.origin
            shown = [one for one in history.revisions if one.number >= start]
            more = len(shown) + (start == 0) > page.size
            shown = shown[: page.size - (start == 0)]
            told = await tell_revisions(tx, tenant_id, shown, history)
            batch_id = batch_of(origin.receipt_id)
            pending = await events.list_pending(tx, tenant_id, [batch_id])
            numbers = [(origin.event.customer_id, line.number) for line in origin.lines]
            usages = await usage.find_named(tx, tenant_id, numbers)
        rendered = [
            render_revision(one, history, outcome) for one, outcome in zip(shown, told, strict=True)
        ]
        if start == 0:
            first = outcome_of_stored(origin, usages, bool(pending))
            rendered.insert(0, render_original(history, first))
        token = next_token(str(rendered[-1].revision)) if more else ""
        return correction_pb2.ListEventRevisionsResponse(revisions=rendered, next_page_token=token)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise InvalidValue("page_token", "is not from this list")
    return int(text)
