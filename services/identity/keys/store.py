"""SQL of API keys."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.call import Environment
from chassis.database import Connection
from identity.keys.domain import ApiKey, KnownKey, StoredSecret

_COLUMNS = "key_id, name, scopes, create_time, expire_time, revoke_time, last_use_time"


async def lock_name(tx: Connection, tenant_id: UUID, name: str) -> None:
    """Let makers of keys of one name pass one by one, until the transaction ends."""
    await tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"api_key:{tenant_id}:{name}"
    )


async def count_active(tx: Connection, tenant_id: UUID, name: str, now: datetime) -> int:
    return int(
        await tx.fetchval(
            "SELECT count(*) FROM api_key WHERE tenant_id = $1 AND name = $2"
            " AND revoke_time IS NULL AND (expire_time IS NULL OR expire_time > $3)",
            tenant_id,
            name,
            now,
        )
    )


async def insert_key(tx: Connection, tenant_id: UUID, key: ApiKey, secret: StoredSecret) -> None:
    await tx.execute(
        "INSERT INTO api_key (tenant_id, key_id, name, scopes, secret_hash, pepper_number,"
        " create_time, expire_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tenant_id,
        key.key_id,
        key.name,
        list(key.scopes),
        secret.digest,
        secret.pepper_number,
        key.create_time,
        key.expire_time,
    )


async def find_environment(tx: Connection, tenant_id: UUID) -> Environment | None:
    """The tenant's environment, or None where there is no such tenant."""
    found = await tx.fetchval("SELECT environment FROM tenant WHERE tenant_id = $1", tenant_id)
    return Environment(found) if found else None


async def list_keys(tx: Connection, tenant_id: UUID, after: UUID, count_max: int) -> list[ApiKey]:
    """Keys by creation: their ids rise with time."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM api_key WHERE tenant_id = $1 AND key_id > $2"
        " ORDER BY key_id LIMIT $3",
        tenant_id,
        after,
        count_max,
    )
    return [_read(row) for row in rows]


async def lock_key(tx: Connection, tenant_id: UUID, key_id: UUID) -> ApiKey | None:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM api_key WHERE tenant_id = $1 AND key_id = $2 FOR UPDATE",
        tenant_id,
        key_id,
    )
    return _read(row) if row else None


async def save_revocation(tx: Connection, tenant_id: UUID, key_id: UUID, now: datetime) -> None:
    await tx.execute(
        "UPDATE api_key SET revoke_time = $3 WHERE tenant_id = $1 AND key_id = $2",
        tenant_id,
        key_id,
        now,
    )


async def save_use(tx: Connection, known: KnownKey, secret: StoredSecret, now: datetime) -> None:
    """Note that a key was used, and keep its hash under the newest pepper."""
    await tx.execute(
        "UPDATE api_key SET last_use_time = greatest(last_use_time, $3), secret_hash = $4,"
        " pepper_number = $5 WHERE tenant_id = $1 AND key_id = $2",
        known.tenant_id,
        known.key_id,
        now,
        secret.digest,
        secret.pepper_number,
    )


async def find_known(connection: Connection, key_id: UUID) -> KnownKey | None:
    """A key by its id alone, looked up past the guard."""
    row = await connection.fetchrow("SELECT * FROM find_api_key($1)", key_id)
    if row is None:
        return None
    return KnownKey(
        tenant_id=row["tenant_id"],
        environment=Environment(row["environment"]),
        key_id=row["key_id"],
        scopes=tuple(row["scopes"]),
        secret=StoredSecret(row["secret_hash"], row["pepper_number"]),
        expire_time=row["expire_time"],
        revoke_time=row["revoke_time"],
        last_use_time=row["last_use_time"],
    )


def _read(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        name=row["name"],
        scopes=tuple(row["scopes"]),
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        revoke_time=row["revoke_time"],
        last_use_time=row["last_use_time"],
    )
