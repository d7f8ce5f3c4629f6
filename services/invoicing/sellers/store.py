"""SQL of the seller."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Connection
from invoicing.sellers.domain import Seller


async def save_seller(tx: Connection, tenant_id: UUID, seller: Seller) -> None:
    await tx.execute(
        "INSERT INTO seller (tenant_id, name, address, tax_id, email, number_prefix,"
        " net_terms_days) VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (tenant_id) DO UPDATE SET name = excluded.name,"
        " address = excluded.address, tax_id = excluded.tax_id, email = excluded.email,"
        " number_prefix = excluded.number_prefix, net_terms_days = excluded.net_terms_days",
        tenant_id,
        seller.name,
        list(seller.address),
        seller.tax_id,
        seller.email,
        seller.number_prefix,
        seller.net_terms_days,
    )


async def find_seller(tx: Connection, tenant_id: UUID) -> Seller | None:
    row = await tx.fetchrow(
        "SELECT name, address, tax_id, email, number_prefix, net_terms_days FROM seller"
        " WHERE tenant_id = $1",
        tenant_id,
    )
    if row is None:
        return None
    return Seller(
        name=row["name"],
        address=tuple(row["address"]),
        tax_id=row["tax_id"],
        email=row["email"],
        number_prefix=row["number_prefix"],
        net_terms_days=row["net_terms_days"],
    )
