"""Creating, archiving and listing meters, and the copy of them that the hot path reads."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from chassis.database import Connection, Database
from chassis.paging import Page
from kernel.errors import InvalidValue, NotFound
from metering.meters import store
from metering.meters.domain import METERS_MAX, AlreadyExists, Meter, MeterSet

TENANTS_MAX = 10_000  # whose meters are kept; beyond that, all are read again


async def create_meter(tx: Connection, tenant_id: UUID, meter: Meter) -> Meter:
    """Publish a meter. Raises AlreadyExists, InvalidValue where the tenant has too many."""
    version = await store.lock_version(tx, tenant_id)
    if await store.count(tx, tenant_id) >= METERS_MAX:
        raise InvalidValue("meter", f"there are {METERS_MAX} meters already")
    published = replace(meter, from_version=version)
    if not await store.insert(tx, tenant_id, published):
        raise AlreadyExists("meter", meter.code)
    return published


async def archive_meter(tx: Connection, tenant_id: UUID, code: str) -> Meter:
    """Stop a meter; stopping it again changes nothing. Raises NotFound."""
    version = await store.lock_version(tx, tenant_id)
    meter = await store.find(tx, tenant_id, code)
    if meter is None:
        raise NotFound("meter", code)
    if meter.until_version is not None:
        return meter
    await store.archive(tx, tenant_id, code, version)
    return replace(meter, until_version=version)


async def list_meters(tx: Connection, tenant_id: UUID, page: Page) -> list[Meter]:
    """One page by code, and one meter more where there are more."""
    after = page.after[0] if page.after else ""
    return await store.list_page(tx, tenant_id, after, page.size + 1)


class Meters:
    """Each tenant's set of meters, kept until its version is no longer the stored one.

    Whoever decides by it compares versions inside its own transaction and calls `refresh`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sets: dict[UUID, MeterSet] = {}

    async def of(self, tenant_id: UUID) -> MeterSet:
        """The set as last read, perhaps stale."""
        found = self._sets.get(tenant_id)
        return found if found is not None else await self.refresh(tenant_id)

    async def current(self, tx: Connection, tenant_id: UUID) -> MeterSet:
        """The set as it is stored now."""
        version = await store.find_version(tx, tenant_id)
        found = self._sets.get(tenant_id)
        if found is not None and found.version == version:
            return found
        return await self._read(tx, tenant_id)

    async def refresh(self, tenant_id: UUID) -> MeterSet:
        """Read the set anew."""
        async with self._database.transaction(tenant_id) as tx:
            return await self._read(tx, tenant_id)

    async def _read(self, tx: Connection, tenant_id: UUID) -> MeterSet:
        # The version first: meters published in between are read again at the next comparison.
        version = await store.find_version(tx, tenant_id)
        found = MeterSet.of(version, await store.list_all(tx, tenant_id))
        if len(self._sets) >= TENANTS_MAX:
            self._sets.clear()
        self._sets[tenant_id] = found
        return found
