"""SQL of tenants."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.call import Environment
from chassis.database import Connection
from identity.tenants.domain import Tenant

_COLUMNS = "tenant_id, name, environment, create_time"


async def insert_tenant(tx: Connection, tenant: Tenant) -> bool:
    """Write a new tenant; False where that id is taken."""
    return bool(
        await tx.fetchval(
            f"INSERT INTO tenant ({_COLUMNS}) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (tenant_id) DO NOTHING RETURNING true",
            tenant.tenant_id,
            tenant.name,
            tenant.environment.value,
            tenant.create_time,
        )
    )


async def find_tenant(tx: Connection, tenant_id: UUID) -> Tenant | None:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM tenant WHERE tenant_id = $1",
        tenant_id,
    )
    return _read(row) if row else None


async def list_tenants(
    connection: Connection, after_time: datetime, after_id: UUID, count_max: int
) -> list[Tenant]:
    """All tenants by creation, looked up past the guard."""
    rows = await connection.fetch(
        "SELECT * FROM list_tenants($1, $2, $3)", after_time, after_id, count_max
    )
    return [_read(row) for row in rows]


def _read(row: asyncpg.Record) -> Tenant:
    return Tenant(
        row["tenant_id"], row["name"], Environment(row["environment"]), row["create_time"]
    )
