"""Why budgets say no."""

from __future__ import annotations

from datetime import datetime

from kernel.errors import Kind, Refusal
from kernel.money import format_atoms


class SpendCapReached(Refusal):
    """A cap on the way from the node to its root has no room for this."""

    reason = "SPEND_CAP_REACHED"

    def __init__(
        self,
        *,
        node: str,
        cap_id: str,
        asset: str,
        scale: int,
        meter: str,
        limit: int,
        spent: int,
        held: int,
        needed: int,
        reset_time: datetime | None,
    ) -> None:
        left, need = format_atoms(max(0, limit - spent - held), scale), format_atoms(needed, scale)
        super().__init__(
            f"{need} {asset} needed, {left} left of the spend cap on node {node!r}",
            node=node,
            cap_id=cap_id,
            asset=asset,
            meter=meter,
            limit=format_atoms(limit, scale),
            spent=format_atoms(spent, scale),
            held=format_atoms(held, scale),
            left=left,
            needed=need,
            reset_time="" if reset_time is None else reset_time.isoformat(),
        )


class NodeNotEmpty(Refusal):
    """There are nodes below it."""

    reason = "NODE_NOT_EMPTY"

    def __init__(self, node: str) -> None:
        super().__init__(f"node {node!r} has others below it", node=node)


class BudgetTooLarge(Refusal):
    """A tree has bounds, since all of a path is looked at by every debit."""

    reason = "BUDGET_TOO_LARGE"
    kind = Kind.EXHAUSTED

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"at most {limit} {what}", what=what, limit=limit)
