"""Drafting, publishing and archiving meters, and the copy of them that the hot path reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Database
from chassis.paging import Page
from kernel.errors import InvalidValue, NotFound
from metering.meters import store
from metering.meters.domain import (
    METERS_MAX,
    AlreadyExists,
    Meter,
    MeterArchived,
    MeterSet,
    MeterState,
    check_same_rule,
    next_effective_time,
)

TENANTS_MAX = 10_000  # whose meters are kept; beyond that, all are read again


async def create_meter(tx: Connection, tenant_id: UUID, meter: Meter) -> Meter:
    """Publish a new meter. Raises AlreadyExists, InvalidValue where the tenant has too many."""
    version = await store.lock_version(tx, tenant_id)
    if await store.list_versions(tx, tenant_id, meter.code):
        raise AlreadyExists("meter", meter.code)
    await _check_count(tx, tenant_id)
    published = replace(meter, version=1, state=MeterState.PUBLISHED, from_version=version)
    await store.insert(tx, tenant_id, published)
    return published


async def draft_meter(tx: Connection, tenant_id: UUID, meter: Meter) -> Meter:
    """Write the next version of a meter, in place of a draft that is there already.

    Raises MeterUnchangeable, MeterArchived, InvalidValue where the tenant has too many.
    """
    await store.lock_version(tx, tenant_id)
    await store.delete_draft(tx, tenant_id, meter.code)
    published = await store.list_versions(tx, tenant_id, meter.code)
    if published:
        _check_open(published[-1])
        check_same_rule(published[-1], meter)
    await _check_count(tx, tenant_id)
    draft = replace(meter, version=len(published) + 1, state=MeterState.DRAFT, effective_time=None)
    await store.insert(tx, tenant_id, draft)
    return draft


async def publish_meter(
    tx: Connection, tenant_id: UUID, code: str, effective_time: datetime | None, now: datetime
) -> Meter:
    """Publish the draft of a meter. Raises NotFound, MeterArchived, InvalidValue."""
    version = await store.lock_version(tx, tenant_id)
    versions = await store.list_versions(tx, tenant_id, code)
    draft = _draft_of(versions, code)
    published = versions[:-1]
    if published:
        _check_open(published[-1])
        effective_time = next_effective_time(published[-1], effective_time, now)
    await store.publish(tx, tenant_id, code, version, effective_time)
    return replace(
        draft, state=MeterState.PUBLISHED, from_version=version, effective_time=effective_time
    )


async def cancel_draft(tx: Connection, tenant_id: UUID, code: str) -> Meter:
    """Drop the draft of a meter. Raises NotFound."""
    draft = _draft_of(await store.list_versions(tx, tenant_id, code), code)
    await store.delete_draft(tx, tenant_id, code)
    return draft


async def archive_meter(tx: Connection, tenant_id: UUID, code: str) -> Meter:
    """Stop a meter; stopping it again changes nothing. Raises NotFound."""
    version = await store.lock_version(tx, tenant_id)
    published = [
        meter
        for meter in await store.list_versions(tx, tenant_id, code)
        if meter.state is not MeterState.DRAFT
    ]
    if not published:
        raise NotFound("meter", code)
    meter = published[-1]
    if meter.until_version is not None:
        return meter
    await store.delete_draft(tx, tenant_id, code)
    await store.archive(tx, tenant_id, code, version)
    return replace(meter, until_version=version, state=MeterState.ARCHIVED)


async def find_newest(tx: Connection, tenant_id: UUID, code: str) -> Meter:
    """The draft of a meter, or its newest published version. Raises NotFound."""
    versions = await store.list_versions(tx, tenant_id, code)
    if not versions:
        raise NotFound("meter", code)
    return versions[-1]


async def list_meters(tx: Connection, tenant_id: UUID, page: Page) -> list[Meter]:
    """One page by code, and one meter more where there are more."""
    after = page.after[0] if page.after else ""
    return await store.list_page(tx, tenant_id, after, page.size + 1)


async def list_versions(tx: Connection, tenant_id: UUID, code: str, page: Page) -> list[Meter]:
    """One page of a meter's versions, and one more where there are more. Raises NotFound."""
    after = int(page.after[0]) if page.after and page.after[0].isdecimal() else 0
    found = await store.list_versions(tx, tenant_id, code, after, page.size + 1)
    if not found and not after:
        raise NotFound("meter", code)
    return found


async def _check_count(tx: Connection, tenant_id: UUID) -> None:
    if await store.count(tx, tenant_id) >= METERS_MAX:
        raise InvalidValue("meter", f"there are {METERS_MAX} meters and versions already")


def _check_open(meter: Meter) -> None:
    if meter.until_version is not None:
        raise MeterArchived(meter.code)


def _draft_of(versions: list[Meter], code: str) -> Meter:
    if not versions or versions[-1].state is not MeterState.DRAFT:
        raise NotFound("draft of meter", code)
    return versions[-1]


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
