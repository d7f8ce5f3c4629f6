"""The journal's SQL: lists, totals, and the derivation that the verifier compares with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from chassis.database import Connection
from wallet.journal.domain import Disagreement, Filter, PostedDebit, Transfer, Verified
from wallet.ledger.domain.outcomes import Posted, decode
from wallet.ledger.domain.values import Account, TransferKind

# Moves of one key in one wallet follow each other: capture, debit of funds, debit of overdraft.
MOVES_OF_A_DEBIT = 3


async def list_transfers(
    tx: Connection, tenant_id: UUID, wallet_id: str, after: int, count: int, which: Filter
) -> list[Transfer]:
    """Transfers of a wallet by number, those after a number."""
    rows = await tx.fetch(
        "SELECT t.sequence, t.kind, t.asset, a.scale, t.atoms::text, t.debit_account,"
        " t.credit_account, t.request_id, coalesce(o.reference, '') AS reference,"
        " t.grant_ids::text[], t.grant_atoms::text[], t.create_time"
        " FROM transfers AS t JOIN assets AS a ON a.tenant_id = t.tenant_id AND a.code = t.asset"
        " LEFT JOIN operations AS o"
        " ON o.tenant_id = t.tenant_id AND o.request_id = t.request_id AND t.request_id <> ''"
        " WHERE t.tenant_id = $1 AND t.wallet_id = $2 AND t.sequence > $3"
        " AND ($5 = '' OR t.asset = $5) AND (cardinality($6::smallint[]) = 0 OR t.kind = ANY ($6))"
        " AND ($7::timestamptz IS NULL OR t.create_time >= $7)"
        " AND ($8::timestamptz IS NULL OR t.create_time < $8)"
        " AND ($9 = '' OR t.request_id = $9)"
        " AND ($10::uuid IS NULL OR t.grant_ids @> ARRAY[$10::uuid])"
        " AND ($11::bigint IS NULL OR t.sequence <= $11)"
        " ORDER BY t.sequence LIMIT $4",
        tenant_id,
        UUID(wallet_id),
        after,
        count,
        which.asset,
        list(which.kinds),
        which.start,
        which.end,
        which.request_id,
        UUID(which.grant_id) if which.grant_id else None,
        which.through,
    )
    return [
        Transfer(
            wallet_id,
            row["sequence"],
            TransferKind(row["kind"]),
            row["asset"],
            row["scale"],
            int(row["atoms"]),
            Account(row["debit_account"]),
            Account(row["credit_account"]),
            row["request_id"],
            row["reference"],
            tuple(
                (grant_id or "", int(atoms))
                for grant_id, atoms in zip(row["grant_ids"], row["grant_atoms"], strict=True)
            ),
            row["create_time"],
        )
        for row in rows
    ]


async def list_debits(tx: Connection, tenant_id: UUID, after: str, count: int) -> list[PostedDebit]:
    """What each key debited, in byte order of keys, those after a key.

    Which keys were answered with a debit is said by the outcomes; how much they moved is summed
    from the journal.
    """
    rows = await tx.fetch(
        "SELECT request_id, customer_id, reference, outcome FROM operations"
        " WHERE tenant_id = $1 AND request_id > $2 AND kind IN (2, 4) AND outcome LIKE 'D%'"
        " ORDER BY request_id LIMIT $3",
        tenant_id,
        after,
        count,
    )
    outcomes = {row["request_id"]: decode(row["outcome"]) for row in rows}
    moved = await _sum_moves(tx, tenant_id, outcomes)
    debits = []
    for row in rows:
        outcome = outcomes[row["request_id"]]
        if isinstance(outcome, Posted):
            debits.append(
                PostedDebit(
                    row["request_id"],
                    row["customer_id"],
                    outcome.asset,
                    outcome.scale,
                    moved.get(row["request_id"], 0),
                    row["reference"],
                )
            )
    return debits


async def _sum_moves(
    tx: Connection, tenant_id: UUID, outcomes: Mapping[str, object]
) -> dict[str, int]:
    shares = [
        (key, wallet_id, number)
        for key, outcome in outcomes.items()
        if isinstance(outcome, Posted)
        for wallet_id, _, number in outcome.shares
    ]
    rows = await tx.fetch(
        "SELECT i.key, sum(t.atoms)::text AS atoms"
        " FROM unnest($2::text[], $3::uuid[], $4::bigint[]) AS i (key, wallet_id, number)"
        " JOIN transfers AS t ON t.tenant_id = $1 AND t.wallet_id = i.wallet_id"
        " AND t.sequence >= i.number AND t.sequence < i.number + $5 AND t.request_id = i.key"
        " AND t.kind IN (2, 4) GROUP BY i.key",
        tenant_id,
        [key for key, _, _ in shares],
        [UUID(wallet_id) for _, wallet_id, _ in shares],
        [number for _, _, number in shares],
        MOVES_OF_A_DEBIT,
    )
    moved = {row["key"]: int(row["atoms"]) for row in rows}
    for key, atoms in await _sum_archived(tx, tenant_id, outcomes):
        moved[key] = moved.get(key, 0) + atoms
    return moved


async def _sum_archived(
    tx: Connection, tenant_id: UUID, outcomes: Mapping[str, object]
) -> list[tuple[str, int]]:
    """What the answers say of moves whose day was archived: they are kept, the moves are not."""
    posted = [(key, o.shares) for key, o in outcomes.items() if isinstance(o, Posted)]
    wallets = sorted({share[0] for _, shares in posted for share in shares})
    rows = await tx.fetch(
        "SELECT wallet_id::text, max(last_sequence) AS number FROM journal_checkpoints"
        " WHERE tenant_id = $1 AND wallet_id = ANY ($2) GROUP BY wallet_id",
        tenant_id,
        [UUID(wallet_id) for wallet_id in wallets],
    )
    archived = {row["wallet_id"]: row["number"] for row in rows}
    return [
        (key, atoms)
        for key, shares in posted
        for wallet_id, atoms, number in shares
        if number <= archived.get(wallet_id, 0)
    ]


async def sum_accounts(
    tx: Connection, tenant_id: UUID
) -> list[tuple[str, int, Account, Account, int]]:
    """Sums of the whole journal per asset and pair of accounts, archived days included."""
    rows = await tx.fetch(
        "SELECT t.asset, a.scale, t.debit_account, t.credit_account, t.atoms::text FROM ("
        " SELECT asset, debit_account, credit_account, sum(atoms) AS atoms FROM ("
        "  SELECT asset, debit_account, credit_account, atoms FROM transfers WHERE tenant_id = $1"
        "  UNION ALL SELECT asset, debit_account, credit_account, atoms FROM journal_checkpoints"
        "  WHERE tenant_id = $1) AS m"
        " GROUP BY asset, debit_account, credit_account) AS t"
        " JOIN assets AS a ON a.tenant_id = $1 AND a.code = t.asset",
        tenant_id,
    )
    return [(r[0], r[1], Account(r[2]), Account(r[3]), int(r[4])) for r in rows]


async def verify_wallets(
    tx: Connection, tenant_id: UUID, after: str, count: int, shards: int = 1, shard: int = 0
) -> Verified:
    """Derive the figures of some wallets of a shard from the journal and name those that are
    stored otherwise. One statement, hence one snapshot: it may run while money moves."""
    rows = await tx.fetch(_VERIFY, tenant_id, UUID(after), count, shards, shard)
    totals = rows[0]
    return Verified(
        wallets=int(totals["stored"]),
        transfers=int(totals["derived"]),
        last_wallet_id=totals["wallet_id"] or "",
        disagreements=[
            Disagreement(
                row["wallet_id"],
                row["figure"],
                int(row["stored"]),
                int(row["derived"]),
                row["scale"],
            )
            for row in rows[1:]
        ],
    )


def _figures(pairs: Sequence[tuple[str, str, str]]) -> str:
    return ", ".join(f"('{figure}', {stored}, {derived})" for figure, stored, derived in pairs)


_BALANCE_FIGURES = _figures(
    [
        ("balance.credited", "b.credited", "j.credited"),
        ("balance.debited", "b.debited", "j.debited"),
        ("balance.held", "b.held", "j.held"),
        ("balance.overdrawn", "b.overdrawn", "j.overdrawn"),
        ("balance.held_unbacked", "b.held_unbacked", "j.held_unbacked"),
        ("balance.sequence", "b.sequence", "j.last_number"),
        ("balance.dormant", "b.dormant", "g.dormant"),
        ("balance.restricted_grants", "b.restricted_grants", "g.restricted"),
        (
            "balance.funds_in_grants",
            "g.remaining",
            "j.credited - j.debited + j.overdrawn - j.held_unbacked",
        ),
        ("balance.held_in_grants", "g.held", "j.held - j.held_unbacked"),
    ]
)
_GRANT_FIGURES = _figures(
    [
        ("grant.amount", "g.amount", "d.amount"),
        ("grant.remaining", "g.remaining", "d.remaining"),
        ("grant.held", "g.held", "d.held"),
        ("grant.pinned_by_holds", "coalesce(p.atoms, 0)", "d.held"),
    ]
)

# Account and kind numbers are those of values.py: 1 wallet, 2 held, 3 debt, from 10 on the house;
# 1 grant, 2 debit, 3 hold, 4 capture, 5 release, 6 expire, 7 settle, 8 increase, 9 void,
# 10 reversal, 11 correction, 12 conversion, 13 rollover. What credits the wallet outside of it
# makes a grant, but for what voids and reversals give back to one.
_VERIFY = f"""
WITH page AS MATERIALIZED (
    SELECT wallet_id FROM wallets
     WHERE tenant_id = $1 AND wallet_id > $2 AND get_byte(uuid_send(wallet_id), 15) % $4 = $5
     ORDER BY wallet_id LIMIT $3
), moves AS MATERIALIZED (
    SELECT t.wallet_id, t.asset, t.sequence, t.kind, t.debit_account, t.credit_account, t.atoms,
           t.grant_ids, t.grant_atoms
      FROM page JOIN transfers AS t ON t.tenant_id = $1 AND t.wallet_id = page.wallet_id
), parts AS MATERIALIZED (
    SELECT m.wallet_id, m.asset, m.kind, m.debit_account, m.credit_account, s.grant_id, s.atoms
      FROM moves AS m CROSS JOIN LATERAL unnest(m.grant_ids, m.grant_atoms) AS s (grant_id, atoms)
), archived AS MATERIALIZED (
    SELECT c.* FROM page
      JOIN journal_checkpoints AS c ON c.tenant_id = $1 AND c.wallet_id = page.wallet_id
), unbacked AS (
    SELECT wallet_id, asset,
           sum(CASE WHEN credit_account = 2 THEN atoms
                    WHEN debit_account = 2 THEN -atoms ELSE 0 END) AS atoms
      FROM (SELECT wallet_id, asset, debit_account, credit_account, atoms FROM parts
             WHERE grant_id IS NULL
             UNION ALL
            SELECT wallet_id, asset, debit_account, credit_account, unbacked_atoms
              FROM archived) AS u
     GROUP BY wallet_id, asset
), journal AS (
    SELECT m.wallet_id, m.asset,
           coalesce(sum(m.atoms) FILTER (WHERE m.debit_account >= 10), 0) AS credited,
           coalesce(sum(m.atoms) FILTER (WHERE m.credit_account >= 10), 0) AS debited,
           coalesce(sum(m.atoms) FILTER (WHERE m.credit_account = 2), 0)
             - coalesce(sum(m.atoms) FILTER (WHERE m.debit_account = 2), 0) AS held,
           coalesce(sum(m.atoms) FILTER (WHERE m.debit_account = 3), 0)
             - coalesce(sum(m.atoms) FILTER (WHERE m.credit_account = 3), 0) AS overdrawn,
           max(m.sequence) AS last_number
      FROM (SELECT wallet_id, asset, debit_account, credit_account, atoms, sequence FROM moves
             UNION ALL
            SELECT wallet_id, asset, debit_account, credit_account, atoms, last_sequence
              FROM archived) AS m
     GROUP BY m.wallet_id, m.asset
), derived AS (
    SELECT wallet_id, asset, grant_id,
           coalesce(sum(atoms) FILTER (
               WHERE credit_account = 1 AND kind IN (1, 11, 12, 13)), 0) AS amount,
           coalesce(sum(atoms) FILTER (WHERE credit_account = 1 AND debit_account <> 2), 0)
             - coalesce(sum(atoms) FILTER (WHERE debit_account = 1 AND credit_account <> 2
                   OR debit_account = 2 AND credit_account <> 1), 0) AS remaining,
           coalesce(sum(atoms) FILTER (WHERE credit_account = 2), 0)
             - coalesce(sum(atoms) FILTER (WHERE debit_account = 2), 0) AS held
      FROM (SELECT wallet_id, asset, grant_id, kind, debit_account, credit_account, atoms FROM parts
             WHERE grant_id IS NOT NULL
             UNION ALL
            SELECT c.wallet_id, c.asset, c.grant_id, c.kind, c.debit_account, c.credit_account,
                   c.atoms
              FROM page
              JOIN grant_checkpoints AS c ON c.tenant_id = $1 AND c.wallet_id = page.wallet_id
           ) AS p
     GROUP BY wallet_id, asset, grant_id
), stored_grants AS MATERIALIZED (
    SELECT g.wallet_id, g.asset, g.grant_id, g.amount, g.remaining, g.held, g.dormant, g.breadth
      FROM page JOIN grants AS g ON g.tenant_id = $1 AND g.wallet_id = page.wallet_id
), grant_sums AS (
    SELECT wallet_id, asset, sum(remaining) AS remaining, sum(held) AS held,
           coalesce(sum(remaining) FILTER (WHERE dormant), 0) AS dormant,
           count(*) FILTER (WHERE remaining > 0 AND breadth < 3) AS restricted
      FROM stored_grants GROUP BY wallet_id, asset
), pins AS (
    SELECT p.wallet_id, p.grant_id, sum(p.atoms) AS atoms
      FROM holds AS h
     CROSS JOIN LATERAL unnest(h.pin_wallets, h.pin_grants, h.pin_atoms)
           AS p (wallet_id, grant_id, atoms)
     WHERE h.tenant_id = $1 AND h.state = 1 AND p.wallet_id IN (SELECT wallet_id FROM page)
       AND p.grant_id IS NOT NULL
     GROUP BY p.wallet_id, p.grant_id
), found AS (
    SELECT v.wallet_id, f.figure || ' ' || v.asset AS figure, f.stored, f.derived, v.asset
      FROM (SELECT wallet_id, asset FROM balances
             WHERE tenant_id = $1 AND wallet_id IN (SELECT wallet_id FROM page)
             UNION SELECT wallet_id, asset FROM journal) AS v
      LEFT JOIN (SELECT * FROM balances WHERE tenant_id = $1) AS b USING (wallet_id, asset)
      LEFT JOIN (SELECT j.*, coalesce(u.atoms, 0) AS held_unbacked
                   FROM journal AS j LEFT JOIN unbacked AS u USING (wallet_id, asset)) AS j
           USING (wallet_id, asset)
      LEFT JOIN grant_sums AS g USING (wallet_id, asset)
     CROSS JOIN LATERAL (VALUES {_BALANCE_FIGURES}) AS f (figure, stored, derived)
    UNION ALL
    SELECT v.wallet_id, f.figure || ' ' || v.grant_id, f.stored, f.derived, v.asset
      FROM (SELECT wallet_id, asset, grant_id FROM stored_grants
             UNION SELECT wallet_id, asset, grant_id FROM derived) AS v
      LEFT JOIN stored_grants AS g USING (wallet_id, asset, grant_id)
      LEFT JOIN derived AS d USING (wallet_id, asset, grant_id)
      LEFT JOIN pins AS p ON p.wallet_id = v.wallet_id AND p.grant_id = v.grant_id
     CROSS JOIN LATERAL (VALUES {_GRANT_FIGURES}) AS f (figure, stored, derived)
    UNION ALL
    SELECT n.wallet_id, 'wallet.sequence', n.last_number, n.known, NULL
      FROM (SELECT wallet_id, max(last_number) AS last_number, sum(known) AS known,
                   bool_or(repeated) AS repeated
              FROM (SELECT wallet_id, max(sequence) AS last_number,
                           count(DISTINCT sequence) AS known,
                           count(*) <> count(DISTINCT sequence) AS repeated
                      FROM moves GROUP BY wallet_id
                     UNION ALL
                    SELECT wallet_id, max(last_sequence), sum(moves), false
                      FROM archived GROUP BY wallet_id) AS u
             GROUP BY wallet_id) AS n
     WHERE n.last_number <> n.known OR n.repeated
)
SELECT (SELECT max(wallet_id::text) FROM page) AS wallet_id, '' AS figure,
       (SELECT count(*) FROM page)::text AS stored, (SELECT count(*) FROM moves)::text AS derived,
       NULL::smallint AS scale
UNION ALL
SELECT f.wallet_id::text, f.figure, coalesce(f.stored, 0)::text, coalesce(f.derived, 0)::text,
       CASE WHEN f.figure ~ '^(balance.(sequence|restricted)|wallet)' THEN NULL ELSE a.scale END
  FROM found AS f LEFT JOIN assets AS a ON a.tenant_id = $1 AND a.code = f.asset
 WHERE coalesce(f.stored, 0) <> coalesce(f.derived, 0) OR f.figure = 'wallet.sequence'
"""
