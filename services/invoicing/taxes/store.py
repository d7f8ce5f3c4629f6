"""SQL of tax rates, exemptions, and when prepaid value is taxed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.taxes.domain.figures import Tax
from invoicing.taxes.domain.rates import Exemption, PrepaidTiming, TaxRate, Treatment
from kernel.money import Amount, Asset

_COLUMNS = (
    "country, region, category, component, name, rate, start_time, treatment, compound, reason"
)
_EXEMPTION = (
    "exemption_id, customer_id, country, category, reason, certificate, start_time, end_time"
)
# Of each kind of document: its id, and what counts its taxes.
_POSITIONS = {"invoice": "position", "credit_note": "invoice_position"}
RateKey = tuple[str, str, str, str, datetime]


async def save_tax_rate(tx: Connection, tenant_id: UUID, rate: TaxRate) -> None:
    await tx.execute(
        f"INSERT INTO tax_rate (tenant_id, {_COLUMNS})"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        " ON CONFLICT (tenant_id, country, region, category, component, start_time)"
        " DO UPDATE SET name = excluded.name, rate = excluded.rate,"
        " treatment = excluded.treatment, compound = excluded.compound,"
        " reason = excluded.reason",
        tenant_id,
        rate.country,
        rate.region,
        rate.category,
        rate.component,
        rate.name,
        rate.rate,
        rate.start_time,
        rate.treatment.value,
        rate.compound,
        rate.reason,
    )


async def list_tax_rates(
    tx: Connection, tenant_id: UUID, after: RateKey, limit: int
) -> list[TaxRate]:
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM tax_rate WHERE tenant_id = $1"
        " AND (country, region, category, component, start_time) > ($2, $3, $4, $5, $6)"
        " ORDER BY country, region, category, component, start_time LIMIT $7",
        tenant_id,
        *after,
        limit,
    )
    return [_tax_rate(row) for row in rows]


async def insert_exemption(tx: Connection, tenant_id: UUID, exemption: Exemption) -> None:
    await tx.execute(
        f"INSERT INTO tax_exemption (tenant_id, {_EXEMPTION})"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tenant_id,
        exemption.exemption_id,
        exemption.customer_id,
        exemption.country,
        exemption.category,
        exemption.reason,
        exemption.certificate,
        exemption.start_time,
        exemption.end_time,
    )


async def find_exemption(tx: Connection, tenant_id: UUID, exemption_id: UUID) -> Exemption | None:
    row = await tx.fetchrow(
        f"SELECT {_EXEMPTION} FROM tax_exemption WHERE tenant_id = $1 AND exemption_id = $2"
        " FOR UPDATE",
        tenant_id,
        exemption_id,
    )
    return None if row is None else Exemption(**dict(row))


async def save_exemption_end(
    tx: Connection, tenant_id: UUID, exemption_id: UUID, end_time: datetime
) -> None:
    await tx.execute(
        "UPDATE tax_exemption SET end_time = $3 WHERE tenant_id = $1 AND exemption_id = $2",
        tenant_id,
        exemption_id,
        end_time,
    )


async def list_exemptions(
    tx: Connection, tenant_id: UUID, customer_id: str, before: UUID | None, limit: int
) -> list[Exemption]:
    """Newest first."""
    rows = await tx.fetch(
        f"SELECT {_EXEMPTION} FROM tax_exemption WHERE tenant_id = $1 AND customer_id = $2"
        " AND ($3::uuid IS NULL OR exemption_id < $3) ORDER BY exemption_id DESC LIMIT $4",
        tenant_id,
        customer_id,
        before,
        limit,
    )
    return [Exemption(**dict(row)) for row in rows]


async def list_exemptions_of(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str]
) -> list[Exemption]:
    """All of customers, in order of their making."""
    rows = await tx.fetch(
        f"SELECT {_EXEMPTION} FROM tax_exemption WHERE tenant_id = $1 AND customer_id = ANY ($2)"
        " ORDER BY exemption_id",
        tenant_id,
        list(customer_ids),
    )
    return [Exemption(**dict(row)) for row in rows]


async def list_rates_of_countries(
    tx: Connection, tenant_id: UUID, countries: Sequence[str]
) -> dict[str, list[TaxRate]]:
    """Rates by country."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM tax_rate WHERE tenant_id = $1 AND country = ANY ($2)"
        " ORDER BY country, region, category, component, start_time",
        tenant_id,
        list(countries),
    )
    found: dict[str, list[TaxRate]] = {country: [] for country in countries}
    for row in rows:
        found[row["country"]].append(_tax_rate(row))
    return found


async def insert_prepaid_tax(
    tx: Connection, tenant_id: UUID, asset: str, timing: PrepaidTiming
) -> PrepaidTiming:
    """State it unless it is stated; returns what holds."""
    await tx.execute(
        "INSERT INTO prepaid_tax (tenant_id, asset, timing) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING",
        tenant_id,
        asset,
        timing.value,
    )
    held = await tx.fetchval(
        "SELECT timing FROM prepaid_tax WHERE tenant_id = $1 AND asset = $2", tenant_id, asset
    )
    return PrepaidTiming(held)


async def list_prepaid_taxes(
    tx: Connection, tenant_id: UUID, after: str, limit: int
) -> list[tuple[str, PrepaidTiming]]:
    rows = await tx.fetch(
        "SELECT asset, timing FROM prepaid_tax WHERE tenant_id = $1 AND asset > $2"
        " ORDER BY asset LIMIT $3",
        tenant_id,
        after,
        limit,
    )
    return [(row["asset"], PrepaidTiming(row["timing"])) for row in rows]


async def list_redeemed(tx: Connection, tenant_id: UUID) -> list[str]:
    """Assets that are taxed when they are used."""
    rows = await tx.fetch(
        "SELECT asset FROM prepaid_tax WHERE tenant_id = $1 AND timing = 'AT_REDEMPTION'",
        tenant_id,
    )
    return [row["asset"] for row in rows]


async def insert_tax_rows(
    tx: Connection,
    tenant_id: UUID,
    document: str,
    taxes: Iterable[tuple[UUID, int, Tax]],
) -> None:
    """The taxes of documents of one kind, "invoice" or "credit_note", each with its document's id
    and at a position of the invoice."""
    await tx.executemany(
        f"INSERT INTO {document}_tax (tenant_id, {document}_id, {_POSITIONS[document]},"
        " description, category, rate, taxable, amount, jurisdiction, treatment, reason,"
        " included, prepaid, compound)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        [
            (
                tenant_id,
                document_id,
                position,
                tax.description,
                tax.category,
                tax.rate,
                tax.taxable.atoms,
                tax.amount.atoms,
                tax.jurisdiction,
                tax.treatment.value,
                tax.reason,
                tax.included,
                tax.prepaid,
                tax.compound,
            )
            for document_id, position, tax in taxes
        ],
    )


def tax_of_row(row: asyncpg.Record, money: Asset) -> Tax:
    """The tax in a row of a document's taxes."""
    return Tax(
        description=row["description"],
        category=row["category"],
        rate=row["rate"],
        taxable=Amount(money, int(row["taxable"])),
        amount=Amount(money, int(row["amount"])),
        jurisdiction=row["jurisdiction"],
        treatment=Treatment(row["treatment"]),
        reason=row["reason"],
        included=row["included"],
        prepaid=row["prepaid"],
        compound=row["compound"],
    )


def _tax_rate(row: asyncpg.Record) -> TaxRate:
    return TaxRate(**{**dict(row), "treatment": Treatment(row["treatment"])})
