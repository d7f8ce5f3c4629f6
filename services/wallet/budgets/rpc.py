"""BudgetService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.wire import parse_request_id
from kernel.ids import new_id
from tollgate.wallet.v1 import budget_service_pb2 as pb
from wallet.assets.operations import Scales
from wallet.budgets import operations
from wallet.budgets.wire import (
    parse_cap,
    parse_key,
    parse_new_node,
    render_budget,
    render_node,
)
from wallet.ledger.wire import parse_customer, parse_id, parse_node


class BudgetService:
    """Who may spend how much."""

    def __init__(self, database: Database, scales: Scales) -> None:
        self._database = database
        self._scales = scales

    async def PutNode(self, request: pb.PutNodeRequest, call: Call) -> pb.PutNodeResponse:
        parse_request_id(request.request_id)
        node = parse_new_node(request, call.now)
        return await operations.put_node(self._database, call, request, node)

    async def RemoveNode(self, request: pb.RemoveNodeRequest, call: Call) -> pb.RemoveNodeResponse:
        parse_request_id(request.request_id)
        parse_customer(request.customer_id)
        parse_key(request.key, "key")
        return await operations.remove_node(self._database, call, request)

    async def ListNodes(self, request: pb.ListNodesRequest, call: Call) -> pb.ListNodesResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        nodes = await operations.list_nodes(
            self._database,
            call.tenant_id,
            parse_customer(request.customer_id),
            parse_node(request.parent_key, "parent_key"),
            page,
        )
        more = len(nodes) > page.size
        nodes = nodes[: page.size]
        return pb.ListNodesResponse(
            nodes=[render_node(node) for node in nodes],
            next_page_token=next_token(nodes[-1].key) if more else "",
        )

    async def PutCap(self, request: pb.PutCapRequest, call: Call) -> pb.PutCapResponse:
        parse_request_id(request.request_id)
        scales = await self._scales.of(call.tenant_id, {request.cap.limit.asset})
        cap = parse_cap(request, call.tenant_id, scales, str(new_id(call.now)), call.now)
        return await operations.put_cap(self._database, call, request, cap)

    async def RemoveCap(self, request: pb.RemoveCapRequest, call: Call) -> pb.RemoveCapResponse:
        parse_request_id(request.request_id)
        parse_customer(request.customer_id)
        parse_key(request.node_key, "node_key")
        parse_id(request.cap_id, "cap_id")
        return await operations.remove_cap(self._database, call, request)

    async def GetBudget(self, request: pb.GetBudgetRequest, call: Call) -> pb.GetBudgetResponse:
        standing = await operations.get_budget(
            self._database,
            call.tenant_id,
            parse_customer(request.customer_id),
            parse_key(request.node_key, "node_key"),
        )
        return pb.GetBudgetResponse(
            node=render_node(standing.node),
            budgets=[render_budget(cap, call.now) for cap in standing.caps],
        )
