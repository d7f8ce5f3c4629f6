"""SQL of the seller."""

from __future__ import annotations

from dataclasses import fields
from uuid import UUID

from chassis.database import Connection
from invoicing.sellers.domain import Logo, Seller

# Columns are the fields of a seller, by their names.
_COLUMNS = tuple(field.name for field in fields(Seller))
_LIST = ", ".join(_COLUMNS)
_VALUES = ", ".join(f"${position}" for position in range(2, len(_COLUMNS) + 2))
_NEW = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)


async def save_seller(tx: Connection, tenant_id: UUID, seller: Seller) -> None:
    values = [getattr(seller, name) for name in _COLUMNS]
    await tx.execute(
        f"INSERT INTO seller (tenant_id, {_LIST}) VALUES ($1, {_VALUES})"
        f" ON CONFLICT (tenant_id) DO UPDATE SET {_NEW}",
        tenant_id,
        *(list(value) if isinstance(value, tuple) else value for value in values),
    )


async def find_seller(tx: Connection, tenant_id: UUID) -> Seller | None:
    row = await tx.fetchrow(f"SELECT {_LIST} FROM seller WHERE tenant_id = $1", tenant_id)
    return None if row is None else Seller(**{**dict(row), "address": tuple(row["address"])})


async def insert_logo(tx: Connection, tenant_id: UUID, logo: Logo) -> None:
    """Keep a picture; documents name it by its digest, so it is never changed."""
    await tx.execute(
        "INSERT INTO seller_logo (tenant_id, sha256, media_type, content) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING",
        tenant_id,
        logo.sha256,
        logo.media_type,
        logo.content,
    )


async def find_logo(tx: Connection, tenant_id: UUID, sha256: str) -> Logo | None:
    row = await tx.fetchrow(
        "SELECT media_type, content FROM seller_logo WHERE tenant_id = $1 AND sha256 = $2",
        tenant_id,
        sha256,
    )
    return None if row is None else Logo(row["media_type"], row["content"])
