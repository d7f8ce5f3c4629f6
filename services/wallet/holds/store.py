"""Holds' SQL: looking at them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from wallet.ledger.domain.books import Hold
from wallet.ledger.domain.outcomes import Held
from wallet.ledger.domain.values import HoldState
from wallet.ledger.store import FIELD, ROW


async def find_hold(
    tx: Connection, tenant_id: UUID, hold_id: str, now: datetime | None
) -> Held | None:
    """A hold as it stands; one whose time is over has expired, whether or not it was swept."""
    row = await tx.fetchrow(
        "SELECT h.hold_id::text, h.customer_id, h.asset, coalesce(a.scale, 0) AS scale,"
        " h.amount::text, h.captured::text,"
        " CASE WHEN h.state = 1 AND h.expire_time <= coalesce($3, clock_timestamp())"
        " THEN 4 ELSE h.state END AS state, h.reference, h.create_time, h.expire_time,"
        " h.share_wallets::text[], h.share_atoms::text[], h.share_sequences"
        " FROM holds AS h"
        " LEFT JOIN assets AS a ON a.tenant_id = h.tenant_id AND a.code = h.asset"
        " WHERE h.tenant_id = $1 AND h.hold_id = $2",
        tenant_id,
        UUID(hold_id),
        now,
    )
    if row is None:
        return None
    shares = zip(row["share_wallets"], row["share_atoms"], row["share_sequences"], strict=True)
    return Held(
        row["hold_id"],
        row["customer_id"],
        row["asset"],
        row["scale"],
        int(row["amount"]),
        int(row["captured"]),
        HoldState(row["state"]),
        row["reference"],
        row["create_time"],
        row["expire_time"],
        0,
        [(wallet_id, int(atoms), number) for wallet_id, atoms, number in shares],
    )


async def grow_holds(tx: Connection, holds: Sequence[Hold]) -> None:
    """Write amounts, times and shares of holds that a batch increased."""
    rows = [
        FIELD.join(
            [
                hold.tenant_id,
                hold.hold_id,
                str(hold.atoms),
                hold.expire_time.isoformat(),
                _literal([wallet_id for wallet_id, _, _ in hold.shares]),
                _literal([str(atoms) for _, atoms, _ in hold.shares]),
                _literal([str(number) for _, _, number in hold.shares]),
            ]
        )
        for hold in holds
    ]
    await tx.fetchval("SELECT wallet.grow_holds($1, $2)", ROW.join(rows), len(rows))


def _literal(values: Sequence[str]) -> str:
    return "{" + ",".join(values) + "}"
