"""SQL of statements: what was in a wallet before, in and after a period."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from wallet.journal.domain import Period


async def find_archived_time(tx: Connection, tenant_id: UUID, wallet_id: str) -> datetime | None:
    """When the last move of the wallet was posted that is in no day of the journal any more."""
    found: datetime | None = await tx.fetchval(
        "SELECT max(last_time) FROM journal_checkpoints WHERE tenant_id = $1 AND wallet_id = $2",
        tenant_id,
        UUID(wallet_id),
    )
    return found


async def find_last_number(
    tx: Connection, tenant_id: UUID, wallet_id: str, before: datetime
) -> int:
    """The number of a wallet's last move before an instant, 0 where there is none.

    Times rise with numbers, so that the search goes back from the end and stops at the first.
    """
    found: int | None = await tx.fetchval(
        "SELECT sequence FROM transfers WHERE tenant_id = $1 AND wallet_id = $2"
        " AND create_time < $3 ORDER BY sequence DESC LIMIT 1",
        tenant_id,
        UUID(wallet_id),
        before,
    )
    return found or 0


async def sum_period(
    tx: Connection,
    tenant_id: UUID,
    wallet_id: str,
    asset: str,
    start: datetime,
    after: int,
    through: int,
) -> list[Period]:
    """Each asset of a wallet from an instant to a number; `after` is the last number of the page
    before."""
    rows = await tx.fetch(_PERIOD, tenant_id, UUID(wallet_id), asset, start, after, through)
    return [
        Period(
            row["asset"],
            row["scale"],
            int(row["opening"]),
            int(row["credited"]),
            int(row["debited"]),
            int(row["opening_held"]),
            int(row["closing_held"]),
            int(row["before_page"]),
        )
        for row in rows
    ]


# A move from the house adds to the wallet, one to the house takes from it; account 2: held.
_PERIOD = """
SELECT m.asset, a.scale,
       coalesce(sum(m.change) FILTER (WHERE m.early), 0)::text AS opening,
       coalesce(sum(m.change) FILTER (WHERE NOT m.early AND m.change > 0), 0)::text AS credited,
       coalesce(-sum(m.change) FILTER (WHERE NOT m.early AND m.change < 0), 0)::text AS debited,
       coalesce(sum(m.held) FILTER (WHERE m.early), 0)::text AS opening_held,
       coalesce(sum(m.held), 0)::text AS closing_held,
       coalesce(sum(m.change) FILTER (WHERE m.early OR m.sequence <= $5), 0)::text AS before_page
  FROM (
      SELECT asset, sequence, create_time < $4 AS early,
             CASE WHEN debit_account >= 10 THEN atoms
                  WHEN credit_account >= 10 THEN -atoms ELSE 0 END AS change,
             CASE WHEN credit_account = 2 THEN atoms
                  WHEN debit_account = 2 THEN -atoms ELSE 0 END AS held
        FROM transfers
       WHERE tenant_id = $1 AND wallet_id = $2 AND sequence <= $6
      UNION ALL
      SELECT asset, 0, true,
             CASE WHEN debit_account >= 10 THEN atoms
                  WHEN credit_account >= 10 THEN -atoms ELSE 0 END,
             CASE WHEN credit_account = 2 THEN atoms
                  WHEN debit_account = 2 THEN -atoms ELSE 0 END
        FROM journal_checkpoints WHERE tenant_id = $1 AND wallet_id = $2
  ) AS m
  JOIN assets AS a ON a.tenant_id = $1 AND a.code = m.asset
 WHERE $3 = '' OR m.asset = $3
 GROUP BY m.asset, a.scale ORDER BY m.asset
"""
