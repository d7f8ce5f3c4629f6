"""CatalogService."""

from __future__ import annotations

from google.protobuf import json_format

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.peers import Peers
from chassis.wire import parse_count
from invoicing.catalog import operations, store
from invoicing.catalog.domain import PriceKind, VersionState
from invoicing.catalog.wire import (
    document_of,
    parse_plan,
    render_plan,
    render_rate_card,
)
from invoicing.customers.wire import parse_customer_id
from invoicing.operations import once
from invoicing.wire import parse_code
from kernel.errors import InvalidValue
from rating.request import answer
from tollgate.invoicing.v1 import catalog_pb2 as pb
from tollgate.type.v1 import price_pb2

RATE_CARDS_MAX = 1_000
VERSION_MAX = 2**31 - 1


class CatalogServicer:
    """Plans, rate cards, and the calculator."""

    def __init__(self, database: Database, peers: Peers) -> None:
        self._database = database
        self._peers = peers

    async def CreatePlan(self, request: pb.CreatePlanRequest, call: Call) -> pb.CreatePlanResponse:
        draft = parse_plan(request.plan, call.now)

        async def change(tx: Connection) -> pb.CreatePlanResponse:
            created = await operations.create_draft(tx, call.tenant_id, draft)
            return pb.CreatePlanResponse(plan=render_plan(created))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CreatePlanResponse,
            change,
        )

    async def PublishPlan(
        self, request: pb.PublishPlanRequest, call: Call
    ) -> pb.PublishPlanResponse:
        code = parse_code(request.code, "code")
        version = parse_count(request.version, "version", minimum=1, maximum=VERSION_MAX)
        meters = await self._meters_for(code, version, call)

        async def change(tx: Connection) -> pb.PublishPlanResponse:
            published = await operations.publish_version(
                tx, call.tenant_id, code, version, meters, call.now
            )
            return pb.PublishPlanResponse(plan=render_plan(published))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.PublishPlanResponse,
            change,
        )

    async def ArchivePlan(
        self, request: pb.ArchivePlanRequest, call: Call
    ) -> pb.ArchivePlanResponse:
        code = parse_code(request.code, "code")
        version = parse_count(request.version, "version", minimum=1, maximum=VERSION_MAX)

        async def change(tx: Connection) -> pb.ArchivePlanResponse:
            archived = await operations.archive_version(tx, call.tenant_id, code, version)
            return pb.ArchivePlanResponse(plan=render_plan(archived))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.ArchivePlanResponse,
            change,
        )

    async def GetPlan(self, request: pb.GetPlanRequest, call: Call) -> pb.GetPlanResponse:
        code = parse_code(request.code, "code")
        version = parse_count(request.version, "version", minimum=0, maximum=VERSION_MAX)
        async with self._database.transaction(call.tenant_id) as tx:
            plan = await operations.get_version(tx, call.tenant_id, code, version)
        return pb.GetPlanResponse(plan=render_plan(plan))

    async def ListPlans(self, request: pb.ListPlansRequest, call: Call) -> pb.ListPlansResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        after = (page.after[0], int(page.after[1])) if page.after else ("", 0)
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_versions(tx, call.tenant_id, after, page.size + 1)
        shown = found[: page.size]
        more = len(found) > page.size
        return pb.ListPlansResponse(
            plans=[render_plan(plan) for plan in shown],
            next_page_token=next_token(shown[-1].code, str(shown[-1].version)) if more else "",
        )

    async def GetRateCards(
        self, request: pb.GetRateCardsRequest, call: Call
    ) -> pb.GetRateCardsResponse:
        if not 1 <= len(request.customer_ids) <= RATE_CARDS_MAX:
            raise InvalidValue("customer_ids", f"takes 1 to {RATE_CARDS_MAX} customers")
        customer_ids = [
            parse_customer_id(customer_id, f"customer_ids[{index}]")
            for index, customer_id in enumerate(request.customer_ids)
        ]
        async with self._database.transaction(call.tenant_id) as tx:
            cards = await operations.get_rate_cards(tx, call.tenant_id, customer_ids, call.now)
        return pb.GetRateCardsResponse(rate_cards=[render_rate_card(card) for card in cards])

    async def RatePreview(
        self, request: pb.RatePreviewRequest, call: Call
    ) -> pb.RatePreviewResponse:
        result = price_pb2.RatingResult()
        json_format.ParseDict(answer(document_of(request.rating)), result)
        return pb.RatePreviewResponse(rating=result)

    async def _meters_for(self, code: str, version: int, call: Call) -> set[str]:
        """The meters a draft may name; metering is asked only where the draft prices usage."""
        async with self._database.transaction(call.tenant_id) as tx:
            plan = await store.find_version(tx, call.tenant_id, code, version)
        if plan is None or plan.state is not VersionState.DRAFT:
            return set()
        if not any(price.kind is PriceKind.USAGE for price in plan.prices):
            return set()
        return await operations.list_meters(self._peers, call)
