"""What can be done with tenants."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from chassis.call import Environment
from chassis.database import Database
from chassis.paging import Page
from identity.tenants import store
from identity.tenants.domain import TENANT_NAMESPACE, Tenant
from kernel.clock import Clock
from kernel.errors import IdempotencyConflict, InvalidValue, NotFound
from kernel.ids import derived_id

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class TenantOperations:
    """Each is one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create_tenant(self, request_id: str, name: str, environment: Environment) -> Tenant:
        """A new tenant, or the one that the same key made; raises IdempotencyConflict."""
        tenant_id = derived_id(TENANT_NAMESPACE, request_id)
        made = Tenant(tenant_id, name, environment, self._clock.now())
        async with self._database.transaction(tenant_id) as tx:
            if await store.insert_tenant(tx, made):
                return made
            found = await store.find_tenant(tx, tenant_id)
        if found is None or (found.name, found.environment) != (name, environment):
            raise IdempotencyConflict(request_id)
        return found

    async def get_tenant(self, tenant_id: UUID) -> Tenant:
        """Raises NotFound where a credential names a tenant that was never made."""
        async with self._database.transaction(tenant_id) as tx:
            found = await store.find_tenant(tx, tenant_id)
        if found is None:
            raise NotFound("tenant", tenant_id)
        return found

    async def list_tenants(self, page: Page) -> list[Tenant]:
        """A page of all tenants by creation; its key is (create_time, tenant_id)."""
        after_time, after_id = _BEGINNING, UUID(int=0)
        if page.after:
            try:
                after_time, after_id = datetime.fromisoformat(page.after[0]), UUID(page.after[1])
            except ValueError:
                raise InvalidValue("page_token", "is not from this list") from None
        async with self._database.unscoped() as connection:
            return await store.list_tenants(connection, after_time, after_id, page.size)
