"""Answers, holds, assets, wallets and recharge rules: what the verifier says of their rows."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Connection
from wallet.journal.domain import Disagreement


async def verify_records(
    tx: Connection, tenant_id: UUID, after: str, last: str, shards: int, shard: int
) -> list[Disagreement]:
    """Compare the rows of wallets after one id and up to another; figures are named by table and
    key. One statement, hence one snapshot."""
    rows = await tx.fetch(_RECORDS, tenant_id, UUID(after), UUID(last), shards, shard)
    return [
        Disagreement(row["wallet_id"], row["figure"], int(row["stored"]), int(row["derived"]), None)
        for row in rows
    ]


# Kinds: 2 debit, 3 hold, 4 capture, 8 increase. An answer that posted begins with D and ends with
# its shares: wallet, atoms, first number; one that set aside begins with H. Rows that must exist
# are counted: stored 0, derived 1 is one that is not there.
_RECORDS = """
WITH moves AS MATERIALIZED (
    SELECT t.wallet_id, t.asset, t.sequence, t.kind, t.atoms, t.credit_account, t.request_id
      FROM transfers AS t
     WHERE t.tenant_id = $1 AND t.wallet_id > $2 AND t.wallet_id <= $3
       AND get_byte(uuid_send(t.wallet_id), 15) % $4 = $5
), asked AS MATERIALIZED (
    SELECT m.wallet_id, m.request_id, min(m.asset) AS asset,
           coalesce(sum(m.atoms) FILTER (WHERE m.kind IN (2, 4)), 0) AS posted,
           coalesce(sum(m.atoms) FILTER (WHERE m.kind = 3), 0) AS placed
      FROM moves AS m WHERE m.request_id <> '' GROUP BY m.wallet_id, m.request_id
), answers AS MATERIALIZED (
    SELECT a.*, o.outcome
      FROM asked AS a
      LEFT JOIN operations AS o ON o.tenant_id = $1 AND o.request_id = a.request_id
), held AS MATERIALIZED (
    SELECT h.hold_id, h.asset, h.amount, h.captured, h.state, h.request_id, s.wallet_id,
           (SELECT sum(x) FROM unnest(h.share_atoms) AS x) AS shared,
           (SELECT coalesce(sum(x), 0) FROM unnest(h.pin_atoms) AS x) AS pinned
      FROM holds AS h
     CROSS JOIN LATERAL (SELECT h.share_wallets[1] AS wallet_id) AS s
     WHERE h.tenant_id = $1 AND s.wallet_id > $2 AND s.wallet_id <= $3
       AND get_byte(uuid_send(s.wallet_id), 15) % $4 = $5
), known AS (
    SELECT wallet_id, asset FROM moves GROUP BY wallet_id, asset
    UNION
    SELECT b.wallet_id, b.asset FROM balances AS b
     WHERE b.tenant_id = $1 AND b.wallet_id > $2 AND b.wallet_id <= $3
       AND get_byte(uuid_send(b.wallet_id), 15) % $4 = $5
), found AS (
    SELECT a.wallet_id, 'operation.row ' || a.request_id AS figure,
           (a.outcome IS NOT NULL)::integer::numeric AS stored, 1::numeric AS derived
      FROM answers AS a
    UNION ALL
    SELECT a.wallet_id, 'operation.posted ' || a.request_id,
           coalesce(substring(a.outcome FROM a.wallet_id::text || ',([0-9]+),')::numeric, 0),
           a.posted
      FROM answers AS a WHERE a.outcome LIKE 'D%'
    UNION ALL
    SELECT a.wallet_id, 'operation.refused ' || a.request_id, 0, a.posted + a.placed
      FROM answers AS a WHERE a.outcome LIKE 'R%'
    UNION ALL
    SELECT a.wallet_id, 'asset.scale ' || a.asset, min(s.scale),
           min(split_part(a.outcome, '|', 3)::integer)
      FROM answers AS a JOIN assets AS s ON s.tenant_id = $1 AND s.code = a.asset
     WHERE a.outcome LIKE 'D%' GROUP BY a.wallet_id, a.asset
    UNION ALL
    SELECT k.wallet_id, 'wallet.row', count(w.wallet_id)::integer::boolean::integer, 1
      FROM known AS k LEFT JOIN wallets AS w ON w.tenant_id = $1 AND w.wallet_id = k.wallet_id
     GROUP BY k.wallet_id
    UNION ALL
    SELECT k.wallet_id, 'asset.row ' || k.asset, (s.code IS NOT NULL)::integer, 1
      FROM known AS k LEFT JOIN assets AS s ON s.tenant_id = $1 AND s.code = k.asset
    UNION ALL
    SELECT h.wallet_id, 'hold.amount ' || h.hold_id, h.amount, h.shared FROM held AS h
    UNION ALL
    -- What is pinned no more was captured or let go; of an open hold, captured.
    SELECT h.wallet_id, 'hold.captured ' || h.hold_id, h.captured, h.amount - h.pinned
      FROM held AS h WHERE h.state = 1 AND h.captured < h.amount - h.pinned
    UNION ALL
    SELECT r.wallet_id, 'recharge_rule.generation ' || r.asset, r.generation,
           (SELECT coalesce(max(c.generation), 0) FROM recharges AS c
             WHERE c.tenant_id = $1 AND c.wallet_id = r.wallet_id AND c.asset = r.asset)
      FROM recharge_rules AS r
     WHERE r.tenant_id = $1 AND r.wallet_id > $2 AND r.wallet_id <= $3
       AND get_byte(uuid_send(r.wallet_id), 15) % $4 = $5
    UNION ALL
    SELECT c.wallet_id, 'recharge.rule ' || c.recharge_id, count(r.in_flight), 1
      FROM recharges AS c
      LEFT JOIN recharge_rules AS r ON r.tenant_id = $1 AND r.wallet_id = c.wallet_id
                                   AND r.asset = c.asset AND r.in_flight = c.recharge_id
     WHERE c.tenant_id = $1 AND c.state = 1 AND c.wallet_id > $2 AND c.wallet_id <= $3
       AND get_byte(uuid_send(c.wallet_id), 15) % $4 = $5
     GROUP BY c.wallet_id, c.recharge_id
)
SELECT f.wallet_id::text, f.figure, coalesce(f.stored, 0)::text AS stored,
       coalesce(f.derived, 0)::text AS derived
  FROM found AS f WHERE coalesce(f.stored, 0) <> coalesce(f.derived, 0)
"""
