"""Metering, wired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from chassis.messages import stream_name
from chassis.platform import Platform
from chassis.relay import Relay
from chassis.server import bind
from chassis.service import App, Job, ServiceDefinition
from metering.archive.jobs import ArchiveSweep
from metering.archive.operations import Archive
from metering.archive.rpc import ArchiveService
from metering.authorizations.operations import Authorizations
from metering.backfills.jobs import BackfillRun
from metering.backfills.operations import Backfills
from metering.backfills.rpc import BackfillService
from metering.charging.operations import Wallet
from metering.config import Config
from metering.corrections.operations import Corrections
from metering.corrections.rpc import CorrectionService
from metering.events.jobs import Partitions
from metering.events.operations import Ingest
from metering.events.rpc import EventService
from metering.explanations.operations import Explanations
from metering.gate.jobs import Expiry
from metering.gate.operations import Gate
from metering.gate.rpc import GateService
from metering.gate.weighing.operations import Weighing
from metering.meters.operations import Meters
from metering.meters.rpc import MeterService
from metering.parking.jobs import ParkingSweep
from metering.parking.operations import Parking
from metering.parking.rpc import ParkingService
from metering.queries.rpc import UsageService
from metering.ratecards.jobs import CardWatch
from metering.ratecards.operations import RateCards
from metering.rehearsals.operations import Rehearsals
from metering.settlement.jobs import Recovery
from metering.settlement.operations import Settlement
from tollgate.metering.v1 import (
    archive_pb2,
    backfill_pb2,
    correction_pb2,
    event_pb2,
    gate_pb2,
    meter_pb2,
    parking_pb2,
    usage_pb2,
)

# One lane gathers larger batches, and what a batch costs beside its requests is a third of it all:
# measured at 256 callers, it answers a sixth more than two, and no slower at 64.
GATE_LANES = 1


@asynccontextmanager
async def open_app(platform: Platform) -> AsyncIterator[App]:
    """The app while in the block; at its end the lanes finish what they took."""
    assert isinstance(platform.settings, Config)
    database, settings = platform.database, platform.settings
    meters = Meters(database)
    cards = RateCards(platform.peers)
    wallet = Wallet(platform.peers)
    settlement = Settlement(database, wallet, meters)
    ingest = Ingest(database, meters, cards, wallet, settlement, settings.lanes)
    weighing = Weighing(database, meters, cards, wallet)
    gate = Gate(database, weighing, GATE_LANES)
    authorizations = Authorizations(database, weighing)
    parking = Parking(database, ingest, meters)
    corrections = Corrections(database, meters, cards, wallet, settlement)
    backfills = Backfills(database, ingest, corrections)
    archive = Archive(database, settings.archive_location, settings.event_retention_days)
    recovery = Recovery(database, settlement, settings.recovery_seconds)
    bindings = [
        bind(MeterService(database), meter_pb2.DESCRIPTOR.services_by_name["MeterService"]),
        bind(
            EventService(
                database,
                ingest,
                meters,
                platform.clocks,
                platform.metrics,
                Explanations(database, meters, platform.peers),
            ),
            event_pb2.DESCRIPTOR.services_by_name["EventService"],
        ),
        bind(
            CorrectionService(database, corrections),
            correction_pb2.DESCRIPTOR.services_by_name["CorrectionService"],
        ),
        bind(
            ParkingService(database, parking),
            parking_pb2.DESCRIPTOR.services_by_name["ParkingService"],
        ),
        bind(
            BackfillService(database, backfills, Rehearsals(database, meters, ingest, corrections)),
            backfill_pb2.DESCRIPTOR.services_by_name["BackfillService"],
        ),
        bind(
            ArchiveService(database, archive),
            archive_pb2.DESCRIPTOR.services_by_name["ArchiveService"],
        ),
        bind(
            GateService(gate, authorizations, platform.clocks, platform.metrics),
            gate_pb2.DESCRIPTOR.services_by_name["GateService"],
        ),
        bind(UsageService(database, meters), usage_pb2.DESCRIPTOR.services_by_name["UsageService"]),
    ]
    jobs = [
        Job("recovery", recovery.run),
        # It sends no messages yet; the relay also sweeps request keys that nobody repeats.
        Job("relay", Relay(database, platform.redis, platform.service).run),
        Job("partitions", Partitions(database).run),
        Job("backfills", BackfillRun(database, platform.clocks, backfills).run),
        Job("archive", ArchiveSweep(archive).run),
        Job("parking", ParkingSweep(database, platform.clocks, parking).run),
        Job("expiry", Expiry(database, platform.clocks).run),
    ]
    async with AsyncExitStack() as stack:
        # Every process has cards of its own to forget, so each watches the stream for itself.
        watch = CardWatch(platform.redis, stream_name("invoicing"), cards)
        task = asyncio.create_task(watch.run(), name="card-watch")
        stack.push_async_callback(_cancel, task)
        stack.push_async_callback(gate.close)
        stack.push_async_callback(ingest.close)
        yield App(bindings, jobs)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


SERVICE = ServiceDefinition(
    name="metering", config=Config, open=open_app, migrations="metering.migrations"
)
