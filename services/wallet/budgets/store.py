"""Budgets' SQL: what a money batch reads and writes of them, and the trees as people keep them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Connection
from wallet.budgets.domain.caps import Cap
from wallet.budgets.domain.counting import Budgets, Entry, Path
from wallet.budgets.domain.reading import read_cap
from wallet.ledger.domain.reading import Page
from wallet.ledger.store import FIELD, NULL, ROW

# Rows of a set cross as one text, as in the ledger's store.

_CAP = (
    "c.tenant_id::text AS tenant, c.customer_id AS customer, c.node, c.cap_id::text, c.asset,"
    ' a.scale, c.meter, c."window", c.limit_atoms::text, c.hard, c.percents, c.version,'
    " c.held::text, c.slot_starts, c.slot_stops, c.slot_leaves, c.slot_atoms::text[], c.told,"
    " c.refusal_told, c.create_time"
)
_CAPS = " FROM budget_caps AS c JOIN assets AS a ON a.tenant_id = c.tenant_id AND a.code = c.asset"
_NODE = "customer_id, key, coalesce(parent_key, '') AS parent_key, name, path, create_time"


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it stands."""

    customer_id: str
    key: str
    parent_key: str
    name: str
    path: Path
    create_time: datetime


# --- within a money batch -------------------------------------------------------------------------


async def open_budgets(tx: Connection, page: Page) -> None:
    """Read the nodes that a batch names and the caps that bind them; nothing where it names none.

    All wallets of the customers are locked by now, and nobody changes a cap without those locks.
    """
    paths = page.row["h_path"]
    held = set(page.wanted.spent_nodes)
    if not page.wanted.nodes and not held and (paths is None or not any(paths)):
        return
    if paths is not None:
        for tenant, customer, path in zip(
            page.row["h_tenant"], page.row["h_customer"], paths, strict=True
        ):
            if path is not None:
                held.update((tenant, customer, node) for node in json.loads(path))
    page.budgets = await tx.fetch(
        "SELECT * FROM wallet.open_budgets($1, $2)",
        _rows(sorted(page.wanted.nodes)),
        _rows(sorted(held)),
    )


async def record_budgets(tx: Connection, budgets: Budgets) -> None:
    """Write what a batch changed in budgets; nothing where it changed none."""
    caps = budgets.changed()
    if not caps and not budgets.entries and not budgets.placed:
        return
    await tx.fetchval(
        "SELECT wallet.record_budgets($1, $2, $3, $4, $5)",
        _rows(_cap_row(cap) for cap in caps),
        len(caps),
        _rows(_entry_row(entry) for entry in budgets.entries),
        _rows((tenant, hold_id, json.dumps(path)) for tenant, hold_id, path in budgets.placed),
        len(budgets.placed),
    )


def _cap_row(cap: Cap) -> Sequence[str]:
    slots = [each.slot for each in cap.slots]
    return (
        cap.tenant_id,
        cap.customer_id,
        cap.node,
        cap.cap_id,
        str(cap.held),
        _literal(slot.start.isoformat() for slot in slots),
        _literal(slot.stop.isoformat() for slot in slots),
        _literal(slot.leave.isoformat() for slot in slots),
        _literal(str(each.atoms) for each in cap.slots),
        str(cap.told),
        cap.refusal_told.isoformat(),
        str(cap.version),
    )


def _entry_row(entry: Entry) -> Sequence[str]:
    return (
        entry.tenant_id,
        entry.request_id,
        entry.customer_id,
        json.dumps(entry.path),
        entry.asset,
        entry.meter,
        str(entry.atoms),
        str(entry.shortfall),
        entry.hold_id or NULL,
        entry.time.isoformat(),
    )


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return ROW.join([FIELD.join(row) for row in rows])


def _literal(values: Iterable[str]) -> str:
    """A Postgres array of numbers or instants, which need no quotes."""
    return "{" + ",".join(values) + "}"


# --- trees and caps as people keep them -----------------------------------------------------------


async def lock_tree(tx: Connection, tenant_id: UUID, customer_id: str) -> None:
    """Keep a customer's budgets still: no wallet is opened, and no batch spends, until the end.

    The order is that of everybody else: the customer's name first, as opening a wallet takes it,
    then its wallets by id, as a batch takes them.
    """
    await tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{tenant_id}/{customer_id}"
    )
    await tx.fetch(
        "SELECT wallet_id FROM wallets WHERE tenant_id = $1 AND customer_id = $2"
        " ORDER BY tenant_id, wallet_id FOR UPDATE",
        tenant_id,
        customer_id,
    )


async def find_node(tx: Connection, tenant_id: UUID, customer_id: str, key: str) -> Node | None:
    row = await tx.fetchrow(
        f"SELECT {_NODE} FROM budget_nodes WHERE tenant_id = $1 AND customer_id = $2 AND key = $3",
        tenant_id,
        customer_id,
        key,
    )
    return None if row is None else _node(row)


async def list_nodes(
    tx: Connection, tenant_id: UUID, customer_id: str, parent_key: str, after: str, count: int
) -> list[Node]:
    """Nodes by key, those after a key; below one node, or all."""
    rows = await tx.fetch(
        f"SELECT {_NODE} FROM budget_nodes WHERE tenant_id = $1 AND customer_id = $2"
        " AND ($3 = '' OR parent_key = $3) AND key > $4 ORDER BY key LIMIT $5",
        tenant_id,
        customer_id,
        parent_key,
        after,
        count,
    )
    return [_node(row) for row in rows]


async def list_below(tx: Connection, tenant_id: UUID, customer_id: str, key: str) -> list[Node]:
    """Everything below a node, at any depth."""
    rows = await tx.fetch(
        f"SELECT {_NODE} FROM budget_nodes"
        " WHERE tenant_id = $1 AND customer_id = $2 AND key <> $3 AND $3 = ANY (path)",
        tenant_id,
        customer_id,
        key,
    )
    return [_node(row) for row in rows]


async def count_nodes(tx: Connection, tenant_id: UUID, customer_id: str) -> int:
    count: int = await tx.fetchval(
        "SELECT count(*) FROM budget_nodes WHERE tenant_id = $1 AND customer_id = $2",
        tenant_id,
        customer_id,
    )
    return count


async def save_node(tx: Connection, tenant_id: UUID, node: Node) -> None:
    """Create a node or change it."""
    await tx.execute(
        "INSERT INTO budget_nodes (tenant_id, customer_id, key, parent_key, name, path,"
        " create_time) VALUES ($1, $2, $3, nullif($4, ''), $5, $6, $7)"
        " ON CONFLICT (tenant_id, customer_id, key) DO UPDATE SET"
        " parent_key = excluded.parent_key, name = excluded.name, path = excluded.path",
        tenant_id,
        node.customer_id,
        node.key,
        node.parent_key,
        node.name,
        list(node.path),
        node.create_time,
    )


async def remove_node(tx: Connection, tenant_id: UUID, customer_id: str, key: str) -> None:
    """Remove a node and its caps."""
    for table, column in (("budget_caps", "node"), ("budget_nodes", "key")):
        await tx.execute(
            f"DELETE FROM {table} WHERE tenant_id = $1 AND customer_id = $2 AND {column} = $3",
            tenant_id,
            customer_id,
            key,
        )


async def list_caps(
    tx: Connection, tenant_id: UUID, customer_id: str, nodes: Sequence[str]
) -> list[Cap]:
    """Caps of some nodes, in the order of those."""
    rows = await tx.fetch(
        f"SELECT {_CAP}{_CAPS} WHERE c.tenant_id = $1 AND c.customer_id = $2"
        " AND c.node = ANY ($3) ORDER BY array_position($3, c.node), c.cap_id",
        tenant_id,
        customer_id,
        list(nodes),
    )
    return [read_cap(row) for row in rows]


async def insert_cap(tx: Connection, tenant_id: UUID, cap: Cap) -> None:
    await tx.execute(
        'INSERT INTO budget_caps (tenant_id, customer_id, node, cap_id, asset, meter, "window",'
        " limit_atoms, hard, percents, held, slot_starts, slot_stops, slot_leaves, slot_atoms,"
        " told, create_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::numeric, $9, $10,"
        " $11::text::numeric, $12, $13, $14, $15::text[]::numeric[], $16, $17)",
        tenant_id,
        cap.customer_id,
        cap.node,
        UUID(cap.cap_id),
        cap.asset,
        cap.meter,
        cap.window.text(),
        str(cap.limit),
        cap.hard,
        list(cap.percents),
        str(cap.held),
        [each.slot.start for each in cap.slots],
        [each.slot.stop for each in cap.slots],
        [each.slot.leave for each in cap.slots],
        [str(each.atoms) for each in cap.slots],
        cap.told,
        cap.create_time,
    )


async def save_terms(tx: Connection, tenant_id: UUID, cap: Cap) -> None:
    """Change what a cap asks; what it counted stays."""
    await tx.execute(
        "UPDATE budget_caps SET limit_atoms = $5::text::numeric, hard = $6, percents = $7,"
        " told = $8, refusal_told = 'epoch', version = version + 1"
        " WHERE tenant_id = $1 AND customer_id = $2 AND node = $3 AND cap_id = $4",
        tenant_id,
        cap.customer_id,
        cap.node,
        UUID(cap.cap_id),
        str(cap.limit),
        cap.hard,
        list(cap.percents),
        cap.told,
    )


async def remove_cap(
    tx: Connection, tenant_id: UUID, customer_id: str, node: str, cap_id: str
) -> bool:
    """Remove a cap; false where there is none."""
    status = await tx.execute(
        "DELETE FROM budget_caps"
        " WHERE tenant_id = $1 AND customer_id = $2 AND node = $3 AND cap_id = $4",
        tenant_id,
        customer_id,
        node,
        UUID(cap_id),
    )
    return bool(status == "DELETE 1")


async def list_spent(
    tx: Connection, tenant_id: UUID, cap: Cap, since: datetime, step_seconds: int
) -> list[tuple[datetime, int]]:
    """What was spent on behalf of a cap's node since an instant, oldest first: one sum for each
    step of time, with an instant inside it."""
    rows = await tx.fetch(
        "SELECT min(count_time) AS instant, sum(atoms + shortfall)::text AS atoms"
        " FROM budget_entries"
        " WHERE tenant_id = $1 AND customer_id = $2 AND asset = $3 AND count_time >= $4"
        " AND ($5 = '' OR meter = $5) AND $6 = ANY (path)"
        " GROUP BY floor(extract(epoch FROM count_time) / $7) ORDER BY 1",
        tenant_id,
        cap.customer_id,
        cap.asset,
        since,
        cap.meter,
        cap.node,
        step_seconds,
    )
    return [(row["instant"], int(row["atoms"])) for row in rows]


async def sum_held(tx: Connection, tenant_id: UUID, cap: Cap) -> int:
    """What open holds set aside on behalf of a cap's node."""
    return int(
        await tx.fetchval(
            "SELECT coalesce(sum(p.atoms), 0)::text FROM holds AS h"
            " CROSS JOIN LATERAL unnest(h.pin_atoms) AS p (atoms)"
            " WHERE h.tenant_id = $1 AND h.customer_id = $2 AND h.state = 1 AND h.asset = $3"
            " AND ($4 = '' OR h.meter = $4) AND h.budget_path IS NOT NULL"
            " AND $5 = ANY (h.budget_path)",
            tenant_id,
            cap.customer_id,
            cap.asset,
            cap.meter,
            cap.node,
        )
    )


def _node(row: Any) -> Node:
    return Node(
        row["customer_id"],
        row["key"],
        row["parent_key"],
        row["name"],
        tuple(row["path"]),
        row["create_time"],
    )
