"""Keeping trees and caps, and telling how they stand. Nothing is spent while they change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import Page
from chassis.requests import claim, record
from kernel.errors import InvalidValue, NotFound
from tollgate.wallet.v1 import budget_service_pb2 as pb
from wallet.budgets import store
from wallet.budgets.domain.caps import Cap
from wallet.budgets.domain.refusals import BudgetTooLarge, NodeNotEmpty
from wallet.budgets.store import Node
from wallet.budgets.wire import render_budget, render_node

LEVELS_MAX = 8  # every debit looks at all of its path
NODES_MAX = 100_000  # of a customer
CAPS_MAX = 16  # of a node


@dataclass(frozen=True, slots=True)
class Standing:
    """A node and the caps on its path as they stand at an instant."""

    node: Node
    caps: list[Cap]


async def put_node(
    database: Database, call: Call, request: pb.PutNodeRequest, node: Node
) -> pb.PutNodeResponse:
    """Create, rename or move.

    Raises NotFound, InvalidValue, BudgetTooLarge, IdempotencyConflict.
    """
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.PutNodeResponse.FromString(recorded)
        await store.lock_tree(tx, call.tenant_id, node.customer_id)
        node = await _place(tx, call.tenant_id, node)
        response = pb.PutNodeResponse(node=render_node(node))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def _place(tx: Connection, tenant_id: UUID, node: Node) -> Node:
    """Find a node its path, and give those below it theirs."""
    above: tuple[str, ...] = ()
    if node.parent_key:
        parent = await store.find_node(tx, tenant_id, node.customer_id, node.parent_key)
        if parent is None:
            raise NotFound("node", node.parent_key)
        above = parent.path
    if node.key in above:
        raise InvalidValue("parent_key", "is the node itself or below it")
    node = replace(node, path=(*above, node.key))
    known = await store.find_node(tx, tenant_id, node.customer_id, node.key)
    below: list[Node] = []
    if known is None:
        if await store.count_nodes(tx, tenant_id, node.customer_id) >= NODES_MAX:
            raise BudgetTooLarge("nodes of a customer", NODES_MAX)
    else:
        node = replace(node, create_time=known.create_time)
        if known.path != node.path:
            cut = len(known.path)
            below = [
                replace(each, path=(*node.path, *each.path[cut:]))
                for each in await store.list_below(tx, tenant_id, node.customer_id, node.key)
            ]
    if any(len(each.path) > LEVELS_MAX for each in (node, *below)):
        raise BudgetTooLarge("levels of a tree", LEVELS_MAX)
    for each in (node, *below):
        await store.save_node(tx, tenant_id, each)
    return node


async def remove_node(
    database: Database, call: Call, request: pb.RemoveNodeRequest
) -> pb.RemoveNodeResponse:
    """Remove a leaf and its caps. Raises NotFound, NodeNotEmpty, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.RemoveNodeResponse.FromString(recorded)
        tenant_id, customer_id, key = call.tenant_id, request.customer_id, request.key
        await store.lock_tree(tx, tenant_id, customer_id)
        if await store.find_node(tx, tenant_id, customer_id, key) is None:
            raise NotFound("node", key)
        if await store.list_nodes(tx, tenant_id, customer_id, key, "", 1):
            raise NodeNotEmpty(key)
        await store.remove_node(tx, tenant_id, customer_id, key)
        response = pb.RemoveNodeResponse()
        await record(tx, tenant_id, request.request_id, response)
        return response


async def list_nodes(
    database: Database, tenant_id: UUID, customer_id: str, parent_key: str, page: Page
) -> list[Node]:
    """One node more than the page holds, where there are more."""
    after = page.after[0] if page.after else ""
    async with database.transaction(tenant_id) as tx:
        return await store.list_nodes(tx, tenant_id, customer_id, parent_key, after, page.size + 1)


async def put_cap(
    database: Database, call: Call, request: pb.PutCapRequest, cap: Cap
) -> pb.PutCapResponse:
    """Set a cap, or change the node's one of the same asset, meter and window.

    A new one counts what was spent in its window before. Raises NotFound, BudgetTooLarge,
    IdempotencyConflict.
    """
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.PutCapResponse.FromString(recorded)
        await store.lock_tree(tx, call.tenant_id, cap.customer_id)
        if await store.find_node(tx, call.tenant_id, cap.customer_id, cap.node) is None:
            raise NotFound("node", cap.node)
        caps = await store.list_caps(tx, call.tenant_id, cap.customer_id, [cap.node])
        known = next((each for each in caps if _is_same(each, cap)), None)
        if known is not None:
            known.limit, known.hard, known.percents = cap.limit, cap.hard, cap.percents
            known.told = known.reached(call.now)
            cap = known
            await store.save_terms(tx, call.tenant_id, cap)
        else:
            if len(caps) >= CAPS_MAX:
                raise BudgetTooLarge("caps of a node", CAPS_MAX)
            await _count_before(tx, call.tenant_id, cap, call.now)
            await store.insert_cap(tx, call.tenant_id, cap)
        response = pb.PutCapResponse(budget=render_budget(cap, call.now))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


def _is_same(one: Cap, other: Cap) -> bool:
    return (one.asset, one.meter, one.window) == (other.asset, other.meter, other.window)


async def _count_before(tx: Connection, tenant_id: UUID, cap: Cap, now: datetime) -> None:
    since, step_seconds = cap.window.counted_since(now)
    for instant, atoms in await store.list_spent(tx, tenant_id, cap, since, step_seconds):
        cap.spend(atoms, instant)
    cap.held = await store.sum_held(tx, tenant_id, cap)
    cap.told = cap.reached(now)


async def remove_cap(
    database: Database, call: Call, request: pb.RemoveCapRequest
) -> pb.RemoveCapResponse:
    """Remove a cap. Raises NotFound, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.RemoveCapResponse.FromString(recorded)
        await store.lock_tree(tx, call.tenant_id, request.customer_id)
        if not await store.remove_cap(
            tx, call.tenant_id, request.customer_id, request.node_key, request.cap_id
        ):
            raise NotFound("cap", request.cap_id)
        response = pb.RemoveCapResponse()
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def get_budget(database: Database, tenant_id: UUID, customer_id: str, key: str) -> Standing:
    """The caps on a node's path, as of the last committed change. Raises NotFound."""
    async with database.transaction(tenant_id) as tx:
        node = await store.find_node(tx, tenant_id, customer_id, key)
        if node is None:
            raise NotFound("node", key)
        return Standing(node, await store.list_caps(tx, tenant_id, customer_id, node.path))
