"""SQL of provider accounts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chassis.database import Connection
from gateway.domain.provider_account import ProviderAccount, ProviderAccountState

_SELECT = (
    "SELECT provider_account_id, code, provider, endpoint, secret_reference,"
    " notification_secret_reference, state, create_time, merchant FROM provider_account"
)


async def insert_provider_account(
    tx: Connection, tenant_id: UUID, account: ProviderAccount
) -> bool:
    """False where the code is taken."""
    inserted = await tx.fetchval(
        "INSERT INTO provider_account (tenant_id, provider_account_id, code, provider, endpoint,"
        " secret_reference, notification_secret_reference, state, create_time, merchant)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        " ON CONFLICT (tenant_id, code) DO NOTHING RETURNING true",
        tenant_id,
        account.provider_account_id,
        account.code,
        account.provider,
        account.endpoint,
        account.secret_reference,
        account.notification_secret_reference,
        account.state.value,
        account.create_time,
        account.merchant,
    )
    return bool(inserted)


async def find_provider_account(
    tx: Connection, tenant_id: UUID, provider_account_id: UUID
) -> ProviderAccount | None:
    row = await tx.fetchrow(
        f"{_SELECT} WHERE tenant_id = $1 AND provider_account_id = $2",
        tenant_id,
        provider_account_id,
    )
    return _account(row) if row else None


async def find_provider_account_by_code(
    tx: Connection, tenant_id: UUID, code: str
) -> ProviderAccount | None:
    row = await tx.fetchrow(
        f"{_SELECT} WHERE tenant_id = $1 AND code = $2",
        tenant_id,
        code,
    )
    return _account(row) if row else None


async def list_provider_accounts(
    tx: Connection, tenant_id: UUID, after: str, count_max: int
) -> list[ProviderAccount]:
    rows = await tx.fetch(
        f"{_SELECT} WHERE tenant_id = $1 AND code > $2 ORDER BY code LIMIT $3",
        tenant_id,
        after,
        count_max,
    )
    return [_account(row) for row in rows]


async def save_state(
    tx: Connection, tenant_id: UUID, provider_account_id: UUID, state: ProviderAccountState
) -> None:
    """Set a state, but never out of DISABLED, which is a person's decision."""
    await tx.execute(
        "UPDATE provider_account SET state = $3"
        " WHERE tenant_id = $1 AND provider_account_id = $2 AND state <> 'DISABLED'",
        tenant_id,
        provider_account_id,
        state.value,
    )


async def find_tenant(connection: Connection, provider_account_id: UUID) -> UUID | None:
    """Whose provider account it is; for callers who come without a tenant."""
    found = await connection.fetchval("SELECT tenant_of_provider_account($1)", provider_account_id)
    return UUID(str(found)) if found else None


def _account(row: Any) -> ProviderAccount:
    return ProviderAccount(
        provider_account_id=row["provider_account_id"],
        code=row["code"],
        provider=row["provider"],
        endpoint=row["endpoint"],
        state=ProviderAccountState(row["state"]),
        create_time=row["create_time"],
        merchant=row["merchant"],
        secret_reference=row["secret_reference"],
        notification_secret_reference=row["notification_secret_reference"],
    )
