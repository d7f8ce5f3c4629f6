"""SQL of invoices, their lines and taxes, and of what is billed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.collection.domain import Collection, DunningState
from invoicing.coupons.store import insert_discounts, list_discounts
from invoicing.invoices.domain.charge import BilledSource, SourceKey, SourceKind
from invoicing.invoices.domain.discount import Discount
from invoicing.invoices.domain.document import Draft, Invoice, InvoiceKind, InvoiceState
from invoicing.invoices.domain.line import Detail, Line, LineKind
from invoicing.invoices.domain.snapshot import (
    buyer_snapshot,
    customer_of,
    detail_document,
    seller_of,
    seller_snapshot,
)
from invoicing.taxes.domain.figures import Share
from invoicing.taxes.store import insert_tax_rows, tax_of_row
from kernel.money import Amount, Asset
from kernel.period import Period

_COLUMNS = (
    "v.invoice_id, v.customer_id, v.kind, v.state, v.series, v.series_number, v.number,"
    " v.currency, v.scale, v.period_start_time, v.period_end_time, v.subtotal, v.tax_total,"
    " v.total, v.balance_applied, v.balance_given, v.amount_due, v.issue_time, v.due_time,"
    " v.run_id, v.recharge_id, v.seller, v.buyer, v.create_time, v.payment_id,"
    " v.payment_method_id, v.dunning_state, v.dunning_attempts, v.first_attempt_time,"
    " v.next_attempt_time, v.asks, v.ask_open, v.amount_paid, v.payment_amount, v.reissue_of,"
    " v.close_reason, v.amount_written_off, v.discount_total, v.amount_credited, v.amount_offset,"
    " (SELECT r.invoice_id"
    " FROM invoice AS r WHERE r.tenant_id = v.tenant_id AND r.reissue_of = v.invoice_id)"
    " AS reissued_as"
)


@dataclass(frozen=True, slots=True)
class StoredInvoice:
    """An issued document, and how it is being collected."""

    invoice: Invoice
    collection: Collection


async def take_number(
    tx: Connection, tenant_id: UUID, series: str, issue_time: datetime, count: int = 1
) -> tuple[int, datetime]:
    """The next number of a series, or the first of several, and their date, which never goes back
    (INV-4). The row is held until the transaction ends, and a rollback gives the numbers back."""
    row = await tx.fetchrow(
        "INSERT INTO invoice_series (tenant_id, series, last_number, last_issue_time)"
        " VALUES ($1, $2, $4, $3) ON CONFLICT (tenant_id, series) DO UPDATE"
        " SET last_number = invoice_series.last_number + $4,"
        " last_issue_time = greatest(invoice_series.last_issue_time, excluded.last_issue_time)"
        " RETURNING last_number, last_issue_time",
        tenant_id,
        series,
        issue_time,
        count,
    )
    assert row is not None
    return row["last_number"] - count + 1, row["last_issue_time"]


async def insert_sources(
    tx: Connection, tenant_id: UUID, sources: Sequence[tuple[BilledSource, UUID | None]]
) -> bool:
    """Mark charges as billed, each by a document or by none; False where another run has billed
    one of them already."""
    inserted = await tx.fetchval(
        "WITH marked AS (INSERT INTO billed_source (tenant_id, subscription_item_id, kind,"
        " service_start_time, service_end_time, amount, invoice_id, ordinal,"
        " gross) SELECT $1, s.item, s.kind, s.start_time, s.end_time, s.amount, s.invoice,"
        " s.ordinal, s.gross"
        " FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::numeric[],"
        " $7::uuid[], $8::integer[], $9::numeric[])"
        " AS s (item, kind, start_time, end_time, amount, invoice, ordinal, gross)"
        " ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM marked",
        tenant_id,
        [source.key.subscription_item_id for source, _ in sources],
        [source.key.kind.value for source, _ in sources],
        [source.key.service_start for source, _ in sources],
        [source.service_end for source, _ in sources],
        [source.amount for source, _ in sources],
        [invoice_id for _, invoice_id in sources],
        [source.ordinal for source, _ in sources],
        [source.gross for source, _ in sources],
    )
    return bool(inserted == len(sources))


async def list_sources(
    tx: Connection, tenant_id: UUID, items: Sequence[UUID], ending_after: datetime
) -> list[BilledSource]:
    """What is billed of items, for service that ends after an instant. Of a void document
    and the one that took its place, the latter. Less what is credited."""
    rows = await tx.fetch(
        "SELECT DISTINCT ON (s.subscription_item_id, s.kind, s.service_start_time,"
        " CASE WHEN s.kind IN ('ADJUSTMENT', 'PROGRESS') THEN s.ordinal END)"
        " s.subscription_item_id, s.kind, s.service_start_time, s.service_end_time, s.ordinal,"
        " coalesce(v.state = 'VOID', false) AS is_void, s.gross, coalesce(v.number, '') AS number,"
        " s.amount - CASE WHEN v.amount_credited > 0 THEN (SELECT coalesce(sum(c.amount), 0)"
        "  FROM invoice_line AS l JOIN credit_note AS n USING (tenant_id, invoice_id)"
        "  JOIN credit_note_line AS c ON c.tenant_id = n.tenant_id"
        "   AND c.credit_note_id = n.credit_note_id AND c.invoice_position = l.position"
        "  WHERE l.tenant_id = s.tenant_id AND l.invoice_id = s.invoice_id"
        "   AND l.subscription_item_id = s.subscription_item_id"
        "   AND l.service_start_time = s.service_start_time) ELSE 0 END AS amount"
        " FROM billed_source AS s"
        " LEFT JOIN invoice AS v ON v.tenant_id = s.tenant_id AND v.invoice_id = s.invoice_id"
        " WHERE s.tenant_id = $1 AND s.subscription_item_id = ANY ($2) AND s.service_end_time > $3"
        " ORDER BY s.subscription_item_id, s.kind, s.service_start_time,"
        " CASE WHEN s.kind IN ('ADJUSTMENT', 'PROGRESS') THEN s.ordinal END, s.ordinal DESC",
        tenant_id,
        list(items),
        ending_after,
    )
    return [_source(row) for row in rows]


async def list_sources_of_invoice(
    tx: Connection, tenant_id: UUID, invoice_id: UUID
) -> list[BilledSource]:
    """What one document asked for."""
    rows = await tx.fetch(
        "SELECT subscription_item_id, kind, service_start_time, service_end_time, ordinal, amount,"
        " false AS is_void, gross, '' AS number FROM billed_source"
        " WHERE tenant_id = $1 AND invoice_id = $2"
        " ORDER BY service_start_time, subscription_item_id",
        tenant_id,
        invoice_id,
    )
    return [_source(row) for row in rows]


def _source(row: asyncpg.Record) -> BilledSource:
    kind = SourceKind(row["kind"])
    return BilledSource(
        key=SourceKey(row["subscription_item_id"], kind, row["service_start_time"]),
        service_end=row["service_end_time"],
        amount=int(row["amount"]),
        ordinal=row["ordinal"],
        gross=None if row["gross"] is None else int(row["gross"]),
        number=row["number"],
        is_void=row["is_void"],
    )


async def insert_invoices(
    tx: Connection, tenant_id: UUID, documents: Sequence[StoredInvoice]
) -> None:
    """Write issued documents with all their parts; the statements go to the server together."""
    await tx.executemany(
        "INSERT INTO invoice (tenant_id, invoice_id, customer_id, kind, state, series,"
        " series_number, number, currency, scale, period_start_time, period_end_time, subtotal,"
        " tax_total, total, balance_applied, balance_given, amount_due, issue_time, due_time,"
        " run_id, recharge_id, seller, buyer, create_time, payment_method_id, next_attempt_time,"
        " reissue_of, discount_total, tax_included)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
        " $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23::jsonb, $24::jsonb, $25, $26, $27,"
        " $28, $29, $30)",
        [_invoice_values(tenant_id, stored) for stored in documents],
    )
    await tx.executemany(
        "INSERT INTO invoice_line (tenant_id, invoice_id, position, kind, description,"
        " service_start_time, service_end_time, quantity, asset, asset_scale, cost, wallet_amount,"
        " amount, exact_cost, tax_category, supply_time, details, price_id, subscription_item_id,"
        " tax_position, discount, tax_included, tax_positions, tax_amounts, customer_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
        " $13, $14, $15, $16, $17::jsonb, $18, $19, $20, $21, $22, $23, $24, $25)",
        [
            _line_values(tenant_id, stored.invoice.invoice_id, position, line)
            for stored in documents
            for position, line in enumerate(stored.invoice.draft.lines)
        ],
    )
    taxes = [
        (stored.invoice.invoice_id, position, tax)
        for stored in documents
        for position, tax in enumerate(stored.invoice.draft.taxes)
    ]
    await insert_tax_rows(tx, tenant_id, "invoice", taxes)
    for stored in documents:
        if stored.invoice.draft.discounts:
            draft = stored.invoice.draft
            await insert_discounts(tx, tenant_id, stored.invoice.invoice_id, draft)


def _invoice_values(tenant_id: UUID, stored: StoredInvoice) -> tuple[object, ...]:
    invoice, collection = stored.invoice, stored.collection
    draft = invoice.draft
    return (
        tenant_id,
        invoice.invoice_id,
        draft.customer.customer_id,
        draft.kind.value,
        invoice.state.value,
        invoice.series,
        invoice.series_number,
        invoice.number,
        draft.total.asset.code,
        draft.total.asset.scale,
        draft.period.start if draft.period else None,
        draft.period.end if draft.period else None,
        draft.subtotal.atoms,
        draft.tax_total.atoms,
        draft.total.atoms,
        invoice.balance_applied.atoms,
        draft.balance_given.atoms,
        invoice.amount_due.atoms,
        invoice.issue_time,
        invoice.due_time,
        invoice.run_id,
        invoice.recharge_id,
        json.dumps(seller_snapshot(invoice.seller)),
        json.dumps(buyer_snapshot(draft.customer)),
        invoice.issue_time,
        collection.payment_method_id,
        collection.next_attempt_time,
        invoice.reissue_of,
        draft.discount_total.atoms,
        draft.tax_included.atoms,
    )


def _line_values(
    tenant_id: UUID, invoice_id: UUID, position: int, line: Line
) -> tuple[object, ...]:
    return (
        tenant_id,
        invoice_id,
        position,
        line.kind.value,
        line.description,
        line.service.start if line.service else None,
        line.service.end if line.service else None,
        line.quantity,
        line.cost.asset.code,
        line.cost.asset.scale,
        line.cost.atoms,
        line.wallet.atoms,
        line.amount.atoms,
        line.exact_cost,
        line.tax_category,
        line.supply_time,
        json.dumps([detail_document(detail) for detail in line.details]),
        line.price_id,
        line.subscription_item_id,
        line.taxes[0].position if line.taxes else None,
        line.off,
        bool(line.tax_included),
        [share.position for share in line.taxes],
        [share.atoms for share in line.taxes],
        line.customer_id,
    )


async def find_invoice(tx: Connection, tenant_id: UUID, invoice_id: UUID) -> StoredInvoice | None:
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM invoice AS v WHERE v.tenant_id = $1 AND v.invoice_id = $2",
        tenant_id,
        invoice_id,
    )
    found = await _with_parts(tx, tenant_id, rows)
    return found[0] if found else None


async def find_invoice_by_number(
    tx: Connection, tenant_id: UUID, number: str
) -> StoredInvoice | None:
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM invoice AS v WHERE v.tenant_id = $1 AND v.number = $2",
        tenant_id,
        number,
    )
    found = await _with_parts(tx, tenant_id, rows)
    return found[0] if found else None


async def lock_invoice(tx: Connection, tenant_id: UUID, invoice_id: UUID) -> StoredInvoice | None:
    """The invoice, held until the transaction ends."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM invoice AS v WHERE v.tenant_id = $1 AND v.invoice_id = $2"
        " FOR UPDATE",
        tenant_id,
        invoice_id,
    )
    found = await _with_parts(tx, tenant_id, rows)
    return found[0] if found else None


async def list_invoices(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    before: UUID | None,
    limit: int,
    number: str = "",
) -> list[StoredInvoice]:
    """Newest first; an empty customer_id means everybody's, an empty number all."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM invoice AS v WHERE v.tenant_id = $1"
        " AND ($2 = '' OR v.customer_id = $2) AND ($3::uuid IS NULL OR v.invoice_id < $3)"
        " AND ($5 = '' OR v.number = $5) ORDER BY v.invoice_id DESC LIMIT $4",
        tenant_id,
        customer_id,
        before,
        limit,
        number,
    )
    return await _with_parts(tx, tenant_id, rows)


async def save_collection(
    tx: Connection, tenant_id: UUID, invoice: Invoice, collection: Collection
) -> None:
    """Write what may change of an issued invoice. Once the question to the gateway is decided, no
    worker has a claim on it any more."""
    await tx.execute(
        "UPDATE invoice SET state = $3, amount_due = $4, payment_id = $5, dunning_state = $6,"
        " dunning_attempts = $7, first_attempt_time = $8, next_attempt_time = $9, asks = $10,"
        " ask_open = $11, amount_paid = $12, payment_amount = $13, close_reason = $14,"
        " amount_credited = $15, amount_offset = $16, amount_written_off = $17,"
        " claim_end_time = CASE WHEN $11 THEN claim_end_time ELSE '-infinity' END"
        " WHERE tenant_id = $1 AND invoice_id = $2",
        tenant_id,
        invoice.invoice_id,
        invoice.state.value,
        invoice.amount_due.atoms,
        collection.payment_id,
        collection.state.value,
        collection.attempts,
        collection.first_attempt_time,
        collection.next_attempt_time,
        collection.asks,
        collection.ask_open,
        invoice.amount_paid.atoms,
        collection.payment_amount,
        invoice.close_reason,
        invoice.amount_credited.atoms,
        invoice.amount_offset.atoms,
        invoice.amount_written_off,
    )


async def _with_parts(
    tx: Connection, tenant_id: UUID, rows: Sequence[asyncpg.Record]
) -> list[StoredInvoice]:
    if not rows:
        return []
    ids = [row["invoice_id"] for row in rows]
    lines: dict[UUID, list[asyncpg.Record]] = {}
    for row in await tx.fetch(
        "SELECT * FROM invoice_line WHERE tenant_id = $1 AND invoice_id = ANY ($2)"
        " ORDER BY invoice_id, position",
        tenant_id,
        ids,
    ):
        lines.setdefault(row["invoice_id"], []).append(row)
    taxes: dict[UUID, list[asyncpg.Record]] = {}
    for row in await tx.fetch(
        "SELECT * FROM invoice_tax WHERE tenant_id = $1 AND invoice_id = ANY ($2)"
        " ORDER BY invoice_id, position",
        tenant_id,
        ids,
    ):
        taxes.setdefault(row["invoice_id"], []).append(row)
    discounts = await list_discounts(tx, tenant_id, rows)
    return [
        _stored(
            row,
            lines.get(row["invoice_id"], []),
            taxes.get(row["invoice_id"], []),
            discounts.get(row["invoice_id"], ()),
        )
        for row in rows
    ]


def _stored(
    row: asyncpg.Record,
    lines: Sequence[asyncpg.Record],
    taxes: Sequence[asyncpg.Record],
    discounts: Sequence[Discount],
) -> StoredInvoice:
    money = Asset(row["currency"], row["scale"])
    draft = Draft(
        kind=InvoiceKind(row["kind"]),
        customer=customer_of(json.loads(row["buyer"])),
        period=_period(row["period_start_time"], row["period_end_time"]),
        lines=tuple(_line(line, money) for line in lines),
        taxes=tuple(tax_of_row(tax, money) for tax in taxes),
        subtotal=Amount(money, int(row["subtotal"])),
        tax_total=Amount(money, int(row["tax_total"])),
        discounts=tuple(discounts),
    )
    invoice = Invoice(
        invoice_id=row["invoice_id"],
        number=row["number"],
        series=row["series"],
        series_number=row["series_number"],
        draft=draft,
        state=InvoiceState(row["state"]),
        issue_time=row["issue_time"],
        due_time=row["due_time"],
        seller=seller_of(json.loads(row["seller"])),
        balance_applied=Amount(money, int(row["balance_applied"])),
        amount_paid=Amount(money, int(row["amount_paid"])),
        amount_due=Amount(money, int(row["amount_due"])),
        amount_credited=Amount(money, int(row["amount_credited"])),
        amount_offset=Amount(money, int(row["amount_offset"])),
        run_id=row["run_id"],
        recharge_id=row["recharge_id"],
        reissue_of=row["reissue_of"],
        reissued_as=row["reissued_as"],
        close_reason=row["close_reason"],
        amount_written_off=int(row["amount_written_off"]),
    )
    collection = Collection(
        state=DunningState(row["dunning_state"]),
        attempts=row["dunning_attempts"],
        first_attempt_time=row["first_attempt_time"],
        next_attempt_time=row["next_attempt_time"],
        payment_id=row["payment_id"],
        payment_amount=None if row["payment_amount"] is None else int(row["payment_amount"]),
        payment_method_id=row["payment_method_id"],
        asks=row["asks"],
        ask_open=row["ask_open"],
    )
    return StoredInvoice(invoice, collection)


def _line(row: asyncpg.Record, money: Asset) -> Line:
    asset = Asset(row["asset"], row["asset_scale"])
    return Line(
        kind=LineKind(row["kind"]),
        description=row["description"],
        service=_period(row["service_start_time"], row["service_end_time"]),
        quantity=row["quantity"],
        cost=Amount(asset, int(row["cost"])),
        wallet=Amount(asset, int(row["wallet_amount"])),
        amount=Amount(money, int(row["amount"])),
        exact_cost=row["exact_cost"],
        tax_category=row["tax_category"],
        supply_time=row["supply_time"],
        details=tuple(Detail(**detail) for detail in json.loads(row["details"])),
        price_id=row["price_id"],
        subscription_item_id=row["subscription_item_id"],
        taxes=tuple(
            Share(position, int(atoms))
            for position, atoms in zip(row["tax_positions"], row["tax_amounts"], strict=True)
        ),
        tax_included=row["tax_included"],
        customer_id=row["customer_id"],
        off=int(row["discount"]),
    )


def _period(start: datetime | None, end: datetime | None) -> Period | None:
    return None if start is None or end is None else Period(start, end)
