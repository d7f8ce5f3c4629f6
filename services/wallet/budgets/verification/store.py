"""The derivation of budgets that the verifier compares with."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Connection
from wallet.journal.domain import Disagreement


async def verify_budgets(
    tx: Connection, tenant_id: UUID, after: str, last: str, shards: int = 1, shard: int = 0
) -> list[Disagreement]:
    """Derive the budgets of customers whose first wallet is in a shard, after one and not after
    another.

    What each slot of each cap counted is summed anew from the budgets' journal, what is held from
    the open holds; each line of that journal is compared with what its key was answered, which the
    ledger's own verification compares with the transfers, and each hold's captures with its lines.
    One statement, hence one snapshot.
    """
    rows = await tx.fetch(_VERIFY, tenant_id, UUID(after), UUID(last), shards, shard)
    return [
        Disagreement(
            row["wallet_id"],
            row["figure"],
            int(row["stored"]),
            int(row["derived"]),
            row["scale"],
        )
        for row in rows
    ]


# An answer that begins with D is a debit or capture; its fourth field is what was taken.
_VERIFY = """
WITH customers AS MATERIALIZED (
    SELECT c.customer_id, w.wallet_id
      FROM (SELECT DISTINCT customer_id FROM budget_nodes WHERE tenant_id = $1) AS c
     CROSS JOIN LATERAL (
         SELECT u.wallet_id FROM wallets AS u
          WHERE u.tenant_id = $1 AND u.customer_id = c.customer_id
          ORDER BY u.wallet_id LIMIT 1
     ) AS w
     WHERE w.wallet_id > $2 AND w.wallet_id <= $3
       AND get_byte(uuid_send(w.wallet_id), 15) % $4 = $5
), caps AS MATERIALIZED (
    SELECT c.wallet_id, b.* FROM customers AS c
      JOIN budget_caps AS b ON b.tenant_id = $1 AND b.customer_id = c.customer_id
), lines AS MATERIALIZED (
    SELECT c.wallet_id, e.* FROM customers AS c
      JOIN budget_entries AS e ON e.tenant_id = $1 AND e.customer_id = c.customer_id
), moved AS (
    SELECT e.request_id, split_part(o.outcome, '|', 4)::numeric AS atoms
      FROM lines AS e
      JOIN operations AS o ON o.tenant_id = $1 AND o.request_id = e.request_id
     WHERE e.atoms >= 0 AND o.outcome LIKE 'D%'
), bound AS (
    SELECT c.wallet_id, h.customer_id, h.hold_id, h.asset, h.meter, h.budget_path, h.captured,
           h.state, p.atoms AS pinned
      FROM customers AS c
      JOIN holds AS h ON h.tenant_id = $1 AND h.customer_id = c.customer_id
       AND h.budget_path IS NOT NULL
     CROSS JOIN LATERAL (
         SELECT coalesce(sum(u.atoms), 0) AS atoms FROM unnest(h.pin_atoms) AS u (atoms)
     ) AS p
), found AS (
    SELECT c.wallet_id, 'budget.held ' || c.cap_id AS figure, c.held AS stored,
           (SELECT coalesce(sum(b.pinned), 0) FROM bound AS b
             WHERE b.customer_id = c.customer_id AND b.asset = c.asset AND b.state = 1
               AND (c.meter = '' OR b.meter = c.meter) AND c.node = ANY (b.budget_path)) AS derived,
           c.asset
      FROM caps AS c
    UNION ALL
    SELECT c.wallet_id, 'budget.spent ' || c.cap_id || ' ' || s.start, s.atoms,
           (SELECT coalesce(sum(e.atoms + e.shortfall), 0) FROM budget_entries AS e
             WHERE e.tenant_id = $1 AND e.customer_id = c.customer_id AND e.asset = c.asset
               AND (c.meter = '' OR e.meter = c.meter) AND c.node = ANY (e.path)
               AND e.count_time >= s.start AND e.count_time < s.stop), c.asset
      FROM caps AS c
     CROSS JOIN LATERAL unnest(c.slot_starts, c.slot_stops, c.slot_atoms)
           AS s (start, stop, atoms)
    UNION ALL
    -- Nothing was spent after what the cap counted last.
    SELECT c.wallet_id, 'budget.uncounted ' || c.cap_id, 0,
           (SELECT coalesce(sum(e.atoms + e.shortfall), 0) FROM budget_entries AS e
             WHERE e.tenant_id = $1 AND e.customer_id = c.customer_id AND e.asset = c.asset
               AND (c.meter = '' OR e.meter = c.meter) AND c.node = ANY (e.path)
               AND e.count_time >= coalesce(c.slot_stops[cardinality(c.slot_stops)],
                                            c.create_time)), c.asset
      FROM caps AS c
    UNION ALL
    SELECT e.wallet_id, 'budget.entry ' || e.request_id, e.atoms, coalesce(m.atoms, 0), e.asset
      FROM lines AS e LEFT JOIN moved AS m USING (request_id)
     WHERE e.atoms >= 0
    UNION ALL
    SELECT b.wallet_id, 'budget.captured ' || b.hold_id, b.captured, coalesce(h.atoms, 0), b.asset
      FROM bound AS b
      LEFT JOIN (SELECT hold_id, sum(atoms) AS atoms FROM lines
                  WHERE hold_id IS NOT NULL GROUP BY hold_id) AS h USING (hold_id)
)
SELECT f.wallet_id::text, f.figure, f.stored::text, f.derived::text, a.scale
  FROM found AS f LEFT JOIN assets AS a ON a.tenant_id = $1 AND a.code = f.asset
 WHERE f.stored <> f.derived
"""
