"""Writing days to files, dropping them from the database, and reading or restoring them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from chassis.database import Connection, Database
from kernel.errors import NotFound
from metering.archive import store
from metering.archive.domain import ArchivedDay, ArchiveUnset, path_of
from metering.archive.wire import Files, columns_of

ROWS_PER_GROUP = 5_000  # read, held and written at once

log = structlog.get_logger("metering.archive")


class Archive:
    """Old days of events, in files. An empty location: nothing is archived, and nothing dropped."""

    def __init__(self, database: Database, location: str, retention_days: int) -> None:
        self._database = database
        self._location = location
        self._retention = timedelta(days=retention_days)
        self._opened: Files | None = None

    @property
    def is_set(self) -> bool:
        return bool(self._location)

    async def sweep(self) -> list[date]:
        """Archive every day beyond the retention, and drop those that are archived whole."""
        before = datetime.now(UTC).date() - self._retention
        async with self._database.unscoped() as connection:
            days = await store.list_days(connection, before)
        return [day for day in days if await self.archive_day(day)]

    async def archive_day(self, day: date) -> bool:
        """Whether the day left the database: all its events are in files that were read back."""
        async with self._database.unscoped() as connection:
            tenants = await store.list_tenants(connection, day)
        for tenant_id in tenants:
            if not await self._archive(tenant_id, day):
                return False
        for tenant_id in tenants:
            await self._forget(tenant_id, day)
        async with self._database.unscoped() as connection:
            dropped = await store.drop_day(connection, day)
        if dropped:
            log.info("day_archived", day=day.isoformat(), tenants=len(tenants))
        return dropped

    async def _archive(self, tenant_id: UUID, day: date) -> bool:
        """Write a tenant's day, unless somebody wants it to stay."""
        async with self._database.transaction(tenant_id) as tx:
            known = await store.find_day(tx, tenant_id, day)
        files = await self._files()
        if known is not None:
            # Nothing comes to a day that is over, so its file stays as it was first written: what
            # was restored of it may be less than all.
            if known.keep_until is not None and known.keep_until >= datetime.now(UTC).date():
                return False
            await asyncio.to_thread(files.check, known)
            return True
        path = path_of(tenant_id, day)
        writer = await asyncio.to_thread(files.write, path)
        try:
            async for rows in self._rows(tenant_id, day):
                await asyncio.to_thread(writer.add, rows)
        finally:
            await asyncio.to_thread(writer.__exit__, None, None, None)
        archived = ArchivedDay(
            tenant_id,
            day,
            path,
            writer.rows,
            writer.octets,
            writer.sha256,
            datetime.now(UTC),
            None,
        )
        await asyncio.to_thread(files.write_manifest, archived)
        # What is not read back is not there.
        await asyncio.to_thread(files.check, archived)
        async with self._database.transaction(tenant_id) as tx:
            await store.save_day(tx, archived)
        return True

    async def _rows(self, tenant_id: UUID, day: date) -> AsyncIterator[list[Any]]:
        after: UUID | None = None
        while True:
            async with self._database.transaction(tenant_id) as tx:
                rows = await store.list_rows(tx, tenant_id, day, after, ROWS_PER_GROUP)
            if rows:
                yield rows
            if len(rows) < ROWS_PER_GROUP:
                return
            after = rows[-1]["receipt_id"]

    async def _forget(self, tenant_id: UUID, day: date) -> None:
        async for rows in self._rows(tenant_id, day):
            async with self._database.transaction(tenant_id) as tx:
                ids = [(row["event_id"], row["receipt_id"]) for row in rows]
                await store.forget_ids(tx, tenant_id, ids)

    async def read(
        self, tenant_id: UUID, day: date, customer_id: str
    ) -> AsyncIterator[list[tuple[dict[str, Any], dict[str, str]]]]:
        """A day's rows with their properties, after its file was checked. Raises NotFound,
        ArchiveDamaged, ArchiveUnset."""
        async with self._database.transaction(tenant_id) as tx:
            archived = await _get(tx, tenant_id, day)
        files = await self._files()
        await asyncio.to_thread(files.check, archived)
        batches = files.read(archived)
        while (rows := await asyncio.to_thread(next, batches, None)) is not None:
            found = [row for row in rows if not customer_id or row["customer_id"] == customer_id]
            if found:
                yield [(row, json.loads(row["properties"])) for row in found]

    async def restore(self, tenant_id: UUID, day: date, keep_days: int) -> tuple[ArchivedDay, int]:
        """Put a day back for some days; answers how many events were not in the database. Doing it
        again, after a crash or not, changes nothing but the days."""
        async with self._database.transaction(tenant_id) as tx:
            archived = await _get(tx, tenant_id, day)
        files = await self._files()
        await asyncio.to_thread(files.check, archived)
        keep_until = datetime.now(UTC).date() + timedelta(days=keep_days)
        kept = archived._replace(keep_until=keep_until)
        async with self._database.transaction(tenant_id) as tx:
            # First, so that nobody drops the day while it is filled.
            await store.save_day(tx, kept)
            await store.make_day(tx, day)
        restored = 0
        batches = files.read(archived)
        while (rows := await asyncio.to_thread(next, batches, None)) is not None:
            async with self._database.transaction(tenant_id) as tx:
                restored += await store.insert_rows(tx, tenant_id, columns_of(rows))
        return kept, restored

    async def _files(self) -> Files:
        if not self._location:
            raise ArchiveUnset
        if self._opened is None:
            self._opened = await asyncio.to_thread(Files, self._location)
        return self._opened


async def _get(tx: Connection, tenant_id: UUID, day: date) -> ArchivedDay:
    archived = await store.find_day(tx, tenant_id, day)
    if archived is None:
        raise NotFound("archived day", day.isoformat())
    return archived
