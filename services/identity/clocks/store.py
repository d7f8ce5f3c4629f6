"""SQL of test clocks."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from chassis.call import Environment
from chassis.database import Connection
from identity.clocks.domain import TestClock


async def find_environment(tx: Connection, tenant_id: UUID) -> Environment | None:
    """The tenant's environment, or None where there is no such tenant."""
    found = await tx.fetchval("SELECT environment FROM tenant WHERE tenant_id = $1", tenant_id)
    return Environment(found) if found else None


async def insert_clock(tx: Connection, tenant_id: UUID, clock: TestClock) -> bool:
    """Write the tenant's clock; False where it has one."""
    return bool(
        await tx.fetchval(
            "INSERT INTO test_clock (tenant_id, instant, version, create_time)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id) DO NOTHING RETURNING true",
            tenant_id,
            clock.instant,
            clock.version,
            clock.create_time,
        )
    )


async def find_clock(tx: Connection, tenant_id: UUID) -> TestClock | None:
    row = await tx.fetchrow(
        "SELECT instant, version, create_time FROM test_clock WHERE tenant_id = $1", tenant_id
    )
    return _read(row) if row else None


async def lock_clock(tx: Connection, tenant_id: UUID) -> TestClock | None:
    """The clock, held until the transaction ends."""
    row = await tx.fetchrow(
        "SELECT instant, version, create_time FROM test_clock WHERE tenant_id = $1 FOR UPDATE",
        tenant_id,
    )
    return _read(row) if row else None


async def save_clock(tx: Connection, tenant_id: UUID, clock: TestClock) -> None:
    await tx.execute(
        "UPDATE test_clock SET instant = $2, version = $3 WHERE tenant_id = $1",
        tenant_id,
        clock.instant,
        clock.version,
    )


def _read(row: asyncpg.Record) -> TestClock:
    return TestClock(row["instant"], row["version"], row["create_time"])
