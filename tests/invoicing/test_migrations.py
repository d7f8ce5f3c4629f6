"""Migrations over invoices of before: what they say is kept, and the new figures follow from it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.database import Database
from chassis.migrations import migrate, provision
from invoicing.invoices.store import find_invoice
from tests.support.databases import Databases, FreshDatabase

INVOICE = """
INSERT INTO invoicing.invoice (tenant_id, invoice_id, customer_id, kind, state, series,
    series_number, number, currency, scale, subtotal, tax_total, total, balance_applied,
    balance_given, amount_due, issue_time, due_time, seller, buyer, create_time)
VALUES ($1, $2, 'acme', 'SUBSCRIPTION', $3, 'INV', $4, $5, 'USD', 2, 10000, 2000, 12000, 1000,
    0, $6, now(), now(), '{"name": "S", "address": [], "tax_id": "", "email": "",
    "number_prefix": "INV", "net_terms_days": 14}', '{"customer_id": "acme", "name": "Acme",
    "email": "", "address": [], "country": "GB", "tax_id": "", "time_zone": "UTC",
    "currency": "USD", "create_time": "2025-01-01T00:00:00+00:00"}', now())
"""
LINE = """
INSERT INTO invoicing.invoice_line (tenant_id, invoice_id, position, kind, description, quantity,
    asset, asset_scale, cost, wallet_amount, amount, exact_cost, tax_category, supply_time, details)
VALUES ($1, $2, $3, 'FIXED', 'Fee', '1', 'USD', 2, $4, 0, $4, '0', $5, now(), '[]')
"""
TAX = """
INSERT INTO invoicing.invoice_tax VALUES ($1, $2, 0, 'VAT 20%', 'standard', 0.2, 10000, 2000)
"""


@pytest.fixture
async def before(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FreshDatabase]:
    """A database as the second migration left it."""
    made = replace(await databases.empty(), passwords=databases.passwords(["invoicing"]))
    await provision(made.superuser_dsn, ["invoicing"], made.passwords)
    folder = tmp_path / "invoicing_of_before"
    (folder / "versions").mkdir(parents=True)
    (folder / "__init__.py").touch()
    present = Path(str(importlib.import_module("invoicing.migrations").__file__)).parent
    for revision in ("0001", "0002"):
        (file,) = (present / "versions").glob(f"{revision}_*.py")
        shutil.copy(file, folder / "versions")
    monkeypatch.syspath_prepend(tmp_path)
    await migrate("invoicing", made.migrate_dsn("invoicing"), "invoicing_of_before")
    yield made
    await databases.drop(made)


async def test_what_was_paid_and_taxed_before_is_known_after(before: FreshDatabase) -> None:
    # Two tenants: a migration names none, and must reach them all.
    invoices: dict[tuple[UUID, UUID], str] = {}
    connection = await asyncpg.connect(before.superuser_dsn)
    try:
        for tenant_id in (uuid4(), uuid4()):
            await connection.execute(
                "INSERT INTO invoicing.customer (tenant_id, customer_id, name, email, address,"
                " country, tax_id, time_zone, currency, create_time)"
                " VALUES ($1, 'acme', 'Acme', '', '{}', 'GB', '', 'UTC', 'USD', now())",
                tenant_id,
            )
            for number, (state, due) in enumerate((("PAID", 0), ("OPEN", 11_000), ("VOID", 0)), 1):
                invoice_id = uuid4()
                invoices[tenant_id, invoice_id] = state
                await connection.execute(
                    INVOICE, tenant_id, invoice_id, state, number, f"INV-{number}", due
                )
                await connection.execute(LINE, tenant_id, invoice_id, 0, 10_000, "standard")
                await connection.execute(LINE, tenant_id, invoice_id, 1, 0, "standard")
                await connection.execute(TAX, tenant_id, invoice_id)
    finally:
        await connection.close()
    applied = await migrate("invoicing", before.migrate_dsn("invoicing"), "invoicing.migrations")
    assert applied[0] == "0003"
    async with before.open("invoicing") as pool:
        await _check(pool, invoices)


async def _check(pool: Database, invoices: dict[tuple[UUID, UUID], str]) -> None:
    for (tenant_id, invoice_id), state in invoices.items():
        async with pool.transaction(tenant_id) as tx:
            stored = await find_invoice(tx, tenant_id, invoice_id)
        assert stored is not None
        invoice = stored.invoice
        assert invoice.state.value == state
        assert invoice.amount_paid.value == ("110" if state == "PAID" else "0")
        assert invoice.amount_due.value == ("110" if state == "OPEN" else "0")
        assert [[share.position for share in line.taxes] for line in invoice.draft.lines] == [
            [0],
            [],
        ]
        assert (invoice.draft.total.value, invoice.draft.discount_total.value) == ("120", "0")
    # The guard is up again: nobody sees another's.
    (tenant_id, _), *_ = invoices
    async with pool.transaction(tenant_id) as tx:
        assert await tx.fetchval("SELECT count(*) FROM invoice") == len(invoices) // 2
