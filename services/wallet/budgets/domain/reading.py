"""Budgets from rows: what `open_budgets` answers becomes the values of a batch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from wallet.budgets.domain.caps import Cap, Spent
from wallet.budgets.domain.counting import Budgets
from wallet.budgets.domain.windows import Slot, read_window


def make_budgets(rows: Iterable[Any]) -> Budgets:
    """Fresh budgets: rows with a path are nodes that items named, the others are caps."""
    budgets = Budgets()
    for row in rows:
        name = (row["tenant"], row["customer"], row["node"])
        if row["path"] is not None:
            budgets.paths[name] = tuple(json.loads(row["path"]))
        else:
            budgets.caps.setdefault(name, []).append(read_cap(row))
    return budgets


def read_cap(row: Any) -> Cap:
    """A cap from its row."""
    return Cap(
        tenant_id=row["tenant"],
        customer_id=row["customer"],
        node=row["node"],
        cap_id=row["cap_id"],
        asset=row["asset"],
        scale=row["scale"],
        meter=row["meter"],
        limit=int(row["limit_atoms"]),
        hard=row["hard"],
        window=read_window(row["window"]),
        percents=tuple(row["percents"]),
        version=row["version"],
        held=int(row["held"]),
        slots=[
            Spent(Slot(_utc(start), _utc(stop), _utc(leave)), int(atoms))
            for start, stop, leave, atoms in zip(
                row["slot_starts"],
                row["slot_stops"],
                row["slot_leaves"],
                row["slot_atoms"],
                strict=True,
            )
        ],
        told=row["told"],
        refusal_told=_utc(row["refusal_told"]),
        create_time=_utc(row["create_time"]),
    )


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)
