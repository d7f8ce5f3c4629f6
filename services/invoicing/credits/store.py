"""SQL of credit notes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.credits.domain import (
    CreditDraft,
    CreditLine,
    CreditNote,
    CreditReason,
    CreditTax,
)
from invoicing.invoices.domain.snapshot import (
    buyer_snapshot,
    customer_of,
    seller_of,
    seller_snapshot,
)
from invoicing.taxes.store import insert_tax_rows, tax_of_row
from kernel.money import Amount, Asset


async def sum_lines(tx: Connection, tenant_id: UUID, invoice_id: UUID) -> dict[int, int]:
    """What is credited of an invoice's lines, in minor units by position."""
    rows = await tx.fetch(
        "SELECT l.invoice_position, sum(l.amount) AS amount FROM credit_note AS n"
        " JOIN credit_note_line AS l USING (tenant_id, credit_note_id)"
        " WHERE n.tenant_id = $1 AND n.invoice_id = $2 GROUP BY l.invoice_position",
        tenant_id,
        invoice_id,
    )
    return {row["invoice_position"]: int(row["amount"]) for row in rows}


async def sum_taxes(tx: Connection, tenant_id: UUID, invoice_id: UUID) -> dict[int, int]:
    """What is credited of an invoice's taxes, in minor units by position."""
    rows = await tx.fetch(
        "SELECT t.invoice_position, sum(t.amount) AS amount FROM credit_note AS n"
        " JOIN credit_note_tax AS t USING (tenant_id, credit_note_id)"
        " WHERE n.tenant_id = $1 AND n.invoice_id = $2 GROUP BY t.invoice_position",
        tenant_id,
        invoice_id,
    )
    return {row["invoice_position"]: int(row["amount"]) for row in rows}


async def insert_note(tx: Connection, tenant_id: UUID, note: CreditNote) -> None:
    draft = note.draft
    await tx.execute(
        "INSERT INTO credit_note (tenant_id, credit_note_id, invoice_id, customer_id, series,"
        " series_number, number, reason, memo, currency, scale, subtotal, tax_total, total,"
        " amount_offset, balance_given, out_of_band, issue_time, invoice_number, seller, buyer,"
        " refund_amount, tax_included)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,"
        " $19, $20::jsonb, $21::jsonb, $22, $23)",
        tenant_id,
        note.credit_note_id,
        note.invoice_id,
        note.customer.customer_id,
        note.series,
        note.series_number,
        note.number,
        note.reason.value,
        note.memo,
        draft.total.asset.code,
        draft.total.asset.scale,
        draft.subtotal.atoms,
        draft.tax_total.atoms,
        draft.total.atoms,
        note.amount_offset.atoms,
        note.balance_given.atoms,
        note.out_of_band.atoms,
        note.issue_time,
        note.invoice_number,
        json.dumps(seller_snapshot(note.seller)),
        json.dumps(buyer_snapshot(note.customer)),
        note.refund_amount.atoms,
        draft.tax_included.atoms,
    )
    await tx.executemany(
        "INSERT INTO credit_note_line (tenant_id, credit_note_id, position, invoice_position,"
        " description, amount) VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (tenant_id, note.credit_note_id, index, one.position, one.description, one.amount.atoms)
            for index, one in enumerate(draft.lines)
        ],
    )
    await insert_tax_rows(
        tx,
        tenant_id,
        "credit_note",
        [(note.credit_note_id, one.position, one.tax) for one in draft.taxes],
    )


async def find_note(tx: Connection, tenant_id: UUID, credit_note_id: UUID) -> CreditNote | None:
    rows = await tx.fetch(
        "SELECT * FROM credit_note WHERE tenant_id = $1 AND credit_note_id = $2",
        tenant_id,
        credit_note_id,
    )
    found = await _with_parts(tx, tenant_id, rows)
    return found[0] if found else None


async def list_notes(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    invoice_id: UUID | None,
    before: UUID | None,
    limit: int,
) -> list[CreditNote]:
    """Newest first; an empty customer_id and no invoice_id mean all."""
    rows = await tx.fetch(
        "SELECT * FROM credit_note WHERE tenant_id = $1 AND ($2 = '' OR customer_id = $2)"
        " AND ($3::uuid IS NULL OR invoice_id = $3)"
        " AND ($4::uuid IS NULL OR credit_note_id < $4) ORDER BY credit_note_id DESC LIMIT $5",
        tenant_id,
        customer_id,
        invoice_id,
        before,
        limit,
    )
    return await _with_parts(tx, tenant_id, rows)


async def _with_parts(
    tx: Connection, tenant_id: UUID, rows: Sequence[asyncpg.Record]
) -> list[CreditNote]:
    ids = [row["credit_note_id"] for row in rows]
    lines: dict[UUID, list[asyncpg.Record]] = {one: [] for one in ids}
    for row in await tx.fetch(
        "SELECT * FROM credit_note_line WHERE tenant_id = $1 AND credit_note_id = ANY ($2)"
        " ORDER BY credit_note_id, position",
        tenant_id,
        ids,
    ):
        lines[row["credit_note_id"]].append(row)
    taxes: dict[UUID, list[asyncpg.Record]] = {one: [] for one in ids}
    for row in await tx.fetch(
        "SELECT * FROM credit_note_tax WHERE tenant_id = $1 AND credit_note_id = ANY ($2)"
        " ORDER BY credit_note_id, invoice_position",
        tenant_id,
        ids,
    ):
        taxes[row["credit_note_id"]].append(row)
    return [_note(row, lines[row["credit_note_id"]], taxes[row["credit_note_id"]]) for row in rows]


def _note(
    row: asyncpg.Record, lines: Sequence[asyncpg.Record], taxes: Sequence[asyncpg.Record]
) -> CreditNote:
    money = Asset(row["currency"], row["scale"])
    draft = CreditDraft(
        lines=tuple(
            CreditLine(
                line["invoice_position"], Amount(money, int(line["amount"])), line["description"]
            )
            for line in lines
        ),
        taxes=tuple(
            CreditTax(
                tax["invoice_position"],
                tax_of_row(tax, money),
            )
            for tax in taxes
        ),
        subtotal=Amount(money, int(row["subtotal"])),
        tax_total=Amount(money, int(row["tax_total"])),
    )
    return CreditNote(
        credit_note_id=row["credit_note_id"],
        number=row["number"],
        series=row["series"],
        series_number=row["series_number"],
        invoice_id=row["invoice_id"],
        invoice_number=row["invoice_number"],
        reason=CreditReason(row["reason"]),
        memo=row["memo"],
        draft=draft,
        amount_offset=Amount(money, int(row["amount_offset"])),
        balance_given=Amount(money, int(row["balance_given"])),
        out_of_band=Amount(money, int(row["out_of_band"])),
        refund_amount=Amount(money, int(row["refund_amount"])),
        issue_time=row["issue_time"],
        seller=seller_of(json.loads(row["seller"])),
        customer=customer_of(json.loads(row["buyer"])),
    )
