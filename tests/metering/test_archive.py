"""Old days of events leave the database as files that were read back, and can come back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import grpc
import pyarrow.parquet
import pytest

from metering.archive.operations import Archive
from metering.charging.domain import charge_of, receipt_of
from tests.metering.aging import age_receipts
from tests.metering.conftest import free_address
from tests.metering.world import ACCEPTED, SECONDS, World, new_tenant, unit_price
from tests.support.databases import FreshDatabase
from tests.support.services import Services, credential
from tollgate.metering.v1 import archive_pb2, archive_pb2_grpc, event_pb2

AGE = timedelta(days=80)


class Archived:
    """A world whose metering has an archive, and the archive as its job sees it."""

    def __init__(self, world: World, archive: Archive, stub: object, folder: Path) -> None:
        self.world, self.archive, self.stub, self.folder = world, archive, stub, folder
        self.day = (datetime.now(UTC) - AGE).date()

    async def read(self, customer_id: str = "") -> list[archive_pb2.ArchivedEvent]:
        request = archive_pb2.ReadArchivedEventsRequest(
            day=self.day.isoformat(), customer_id=customer_id
        )
        found: list[archive_pb2.ArchivedEvent] = []
        async for answer in self.stub.ReadArchivedEvents(  # type: ignore[attr-defined]
            request, timeout=SECONDS, metadata=credential(self.world.tenant_id)
        ):
            found.extend(answer.events)
        return found


@pytest.fixture
async def archived(
    metering_database: FreshDatabase, services: Services, tmp_path: Path
) -> AsyncIterator[Archived]:
    address, folder = free_address(), tmp_path / "archive"
    await services.run("identity", metering_database)
    await services.run("wallet", metering_database)
    await services.run("invoicing", metering_database, peers={"metering": address})
    await services.run(
        "metering",
        metering_database,
        listen=address,
        archive_location=str(folder),
        event_retention_days=70,
    )
    channels = [await services.channel(service) for service in ("metering", "wallet", "invoicing")]
    world = World(await new_tenant(await services.channel("identity")), *channels)
    async with metering_database.open("metering", size=2) as database:
        archive = Archive(database, str(folder), 70)
        yield Archived(world, archive, archive_pb2_grpc.ArchiveServiceStub(channels[0]), folder)


async def filled(archived: Archived, database: FreshDatabase) -> None:
    """Some events of long ago, an amended one among them, and one of today."""
    world = archived.world
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("prepaid", {"tokens": unit_price("USD", "1")})
    await world.customer("acme", "prepaid", USD="100")
    await world.customer("other", "prepaid", USD="100")
    await world.ingest(
        world.event("acme", event_id="a", tokens="3"),
        world.event("other", event_id="b", tokens="2.5", note='text, "quoted"'),
        world.event("acme", event_id="c", tokens="1"),
    )
    await world.amend(world.event("acme", event_id="c", tokens="2"))
    await age_receipts(database, AGE, usage=True)
    await world.ingest(world.event("acme", event_id="new", tokens="5"))


async def test_an_old_day_is_in_a_file_and_no_longer_in_the_database(
    archived: Archived, metering_database: FreshDatabase
) -> None:
    await filled(archived, metering_database)
    world = archived.world
    assert archived.day in await archived.archive.sweep()

    (manifest,) = archived.folder.rglob("manifest.json")
    told = json.loads(manifest.read_text())
    content = (manifest.parent / told["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == told["sha256"]
    assert (
        told["events"]
        == 4
        == pyarrow.parquet.read_metadata(manifest.parent / told["file"]).num_rows
    )
    days = await world.call(
        archived.stub.ListArchivedDays,
        archive_pb2.ListArchivedDaysRequest(),  # type: ignore[attr-defined]
    )
    assert [(day.day, day.sha256) for day in days.days] == [
        (archived.day.isoformat(), told["sha256"])
    ]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.call(world.events.GetEvent, event_pb2.GetEventRequest(event_id="a"))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert [each.event.properties["tokens"] for each in await archived.read("other")] == ["2.5"]
    assert len(await archived.read()) == 4
    # Usage is what it was; what can be recounted agrees.
    assert await world.quantity("acme", "tokens") == "5"
    assert await archived.archive.sweep() == []
    verified = await world.call(world.events.VerifyUsage, event_pb2.VerifyUsageRequest())
    assert not verified.disagreements
    charges = await world.call(world.events.ListCharges, event_pb2.ListChargesRequest())
    assert [charge.event_id for charge in charges.charges] == ["new"]
    (kept,) = charges.charges
    assert charge_of(receipt_of(UUID(int=0), 0), 0) < charges.archived_before < kept.charge_id


async def test_a_restored_day_is_as_it_was_and_stays_as_long_as_asked(
    archived: Archived, metering_database: FreshDatabase
) -> None:
    await filled(archived, metering_database)
    world = archived.world
    before = await world.call(
        archived.stub.ListArchivedDays,
        archive_pb2.ListArchivedDaysRequest(),  # type: ignore[attr-defined]
    )
    assert not before.days
    await archived.archive.sweep()
    request = archive_pb2.RestoreArchivedDayRequest(
        request_id="back", day=archived.day.isoformat(), keep_days=3
    )

    answer = await world.call(archived.stub.RestoreArchivedDay, request)  # type: ignore[attr-defined]
    again = await world.call(archived.stub.RestoreArchivedDay, request)  # type: ignore[attr-defined]

    assert answer.events == 4 == again.events
    assert answer.day.restored_until > archived.day.isoformat()
    assert await archived.archive.sweep() == []
    async with metering_database.open("metering", size=1) as pool:
        async with pool.transaction(world.tenant_id) as tx:
            rows = await tx.fetch(
                "SELECT event_id, state, properties, lines FROM event ORDER BY receipt_id"
            )
    assert [(row["event_id"], row["state"]) for row in rows] == [
        ("a", 1), ("b", 1), ("c", 5), ("c", 1), ("new", 1)
    ]  # fmt: skip
    assert json.loads(rows[1]["properties"])["note"] == 'text, "quoted"'


async def test_a_damaged_file_is_neither_read_nor_restored(
    archived: Archived, metering_database: FreshDatabase
) -> None:
    await filled(archived, metering_database)
    await archived.archive.sweep()
    (path,) = archived.folder.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))

    for attempt in (
        archived.read(),
        archived.world.call(
            archived.stub.RestoreArchivedDay,  # type: ignore[attr-defined]
            archive_pb2.RestoreArchivedDayRequest(request_id="back", day=archived.day.isoformat()),
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await attempt
        assert "checksum" in str(failure.value.details())


async def test_no_day_is_dropped_that_is_young_or_was_not_written(
    archived: Archived, metering_database: FreshDatabase
) -> None:
    await filled(archived, metering_database)
    async with metering_database.open("metering", size=1) as pool, pool.unscoped() as connection:
        for day in (archived.day, datetime.now(UTC).date()):
            assert not await connection.fetchval("SELECT drop_event_partition($1)", day)
    (again,) = await archived.world.ingest(archived.world.event("acme", event_id="new", tokens="5"))
    assert (again.state, again.duplicate) == (ACCEPTED, True)
