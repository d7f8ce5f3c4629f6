"""SQL of hosted pages and of customers at providers."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Connection
from gateway.domain.session import HostedPage

_SELECT = (
    "SELECT s.session_id, s.mode, s.customer_id, s.provider_account_id, a.code, s.payment_id,"
    " s.attempt_id, s.asset, s.state, s.idempotency_key, s.provider_session_id,"
    " s.provider_customer_id, s.url, s.return_url, s.contact, s.country, s.notes, s.expire_time,"
    " s.payment_method_id, s.create_time"
    " FROM session AS s JOIN provider_account AS a USING (tenant_id, provider_account_id)"
)


async def insert_session(tx: Connection, tenant_id: UUID, page: HostedPage) -> None:
    await tx.execute(
        "INSERT INTO session (tenant_id, session_id, mode, customer_id, provider_account_id,"
        " payment_id, attempt_id, asset, state, idempotency_key, provider_customer_id, return_url,"
        " contact, country, create_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        tenant_id,
        page.session_id,
        "PAY" if page.pays else "SETUP",
        page.customer_id,
        page.provider_account_id,
        page.payment_id,
        page.attempt_id,
        page.asset,
        page.state,
        page.key,
        page.provider_customer_id,
        page.return_url,
        json.dumps(dict(page.contact)),
        page.country,
        page.create_time,
    )


async def find_session(tx: Connection, tenant_id: UUID, session_id: UUID) -> HostedPage | None:
    row = await tx.fetchrow(
        f"{_SELECT} WHERE s.tenant_id = $1 AND s.session_id = $2", tenant_id, session_id
    )
    return _page(row) if row else None


async def find_page_of(tx: Connection, tenant_id: UUID, attempt_id: UUID) -> HostedPage | None:
    """The page that an attempt is, where it is one."""
    row = await tx.fetchrow(
        f"{_SELECT} WHERE s.tenant_id = $1 AND s.attempt_id = $2", tenant_id, attempt_id
    )
    return _page(row) if row else None


async def find_told_session(
    tx: Connection, tenant_id: UUID, account_id: UUID, reference: UUID | None, provider_id: str
) -> HostedPage | None:
    """The page that a provider tells of, by our reference or by its id."""
    row = await tx.fetchrow(
        f"{_SELECT} WHERE s.tenant_id = $1 AND s.provider_account_id = $2"
        " AND (s.session_id = $3 OR s.attempt_id = $3"
        " OR ($4 <> '' AND s.provider_session_id = $4)) LIMIT 1",
        tenant_id,
        account_id,
        reference,
        provider_id,
    )
    return _page(row) if row else None


async def save_session(tx: Connection, tenant_id: UUID, page: HostedPage) -> None:
    """A page as it is now."""
    await tx.execute(
        "UPDATE session SET state = $3, provider_session_id = $4, provider_customer_id = $5,"
        " url = $6, expire_time = $7, payment_method_id = $8"
        " WHERE tenant_id = $1 AND session_id = $2",
        tenant_id,
        page.session_id,
        page.state,
        page.provider_session_id,
        page.provider_customer_id,
        page.url,
        page.expire_time,
        page.payment_method_id,
    )


async def save_note(
    tx: Connection, tenant_id: UUID, session_id: UUID, name: str, value: str
) -> None:
    await tx.execute(
        "UPDATE session SET notes = notes || jsonb_build_object($3::text, $4::text)"
        " WHERE tenant_id = $1 AND session_id = $2",
        tenant_id,
        session_id,
        name,
        value,
    )


async def find_link(tx: Connection, tenant_id: UUID, account_id: UUID, customer_id: str) -> str:
    """A customer's id at a provider; empty where it has none there."""
    found = await tx.fetchval(
        "SELECT provider_customer_id FROM customer_link"
        " WHERE tenant_id = $1 AND provider_account_id = $2 AND customer_id = $3",
        tenant_id,
        account_id,
        customer_id,
    )
    return str(found or "")


async def insert_link(
    tx: Connection,
    tenant_id: UUID,
    account_id: UUID,
    customer_id: str,
    provider_customer_id: str,
    now: datetime,
) -> None:
    """Remember a customer's id at a provider; the first one stands."""
    await tx.execute(
        "INSERT INTO customer_link (tenant_id, provider_account_id, customer_id,"
        " provider_customer_id, create_time) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        tenant_id,
        account_id,
        customer_id,
        provider_customer_id,
        now,
    )


def _page(row: Any) -> HostedPage:
    return HostedPage(
        session_id=row["session_id"],
        pays=row["mode"] == "PAY",
        customer_id=row["customer_id"],
        provider_account_id=row["provider_account_id"],
        provider_account=row["code"],
        asset=row["asset"],
        key=row["idempotency_key"],
        return_url=row["return_url"],
        create_time=row["create_time"],
        state=row["state"],
        payment_id=row["payment_id"],
        attempt_id=row["attempt_id"],
        provider_session_id=row["provider_session_id"],
        provider_customer_id=row["provider_customer_id"],
        url=row["url"],
        country=row["country"],
        contact=json.loads(row["contact"]),
        notes=json.loads(row["notes"]),
        expire_time=row["expire_time"],
        payment_method_id=row["payment_method_id"],
    )
