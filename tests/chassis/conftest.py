"""The echo service, running in this process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from chassis.service import Running
from tests.conftest import MakeDatabase
from tests.support.databases import FreshDatabase
from tests.support.echo import EchoService, EchoStub, definition
from tests.support.probe import probe_database
from tests.support.services import Services


@dataclass(frozen=True)
class Echo:
    running: Running
    database: FreshDatabase
    servicer: EchoService
    stub: EchoStub


@pytest.fixture
async def echo(fresh_database: MakeDatabase, services: Services) -> Echo:
    database = await probe_database(fresh_database)
    servicers: list[EchoService] = []
    running = await services.run(definition(servicers), database)
    channel = await services.channel(running)
    return Echo(running, database, servicers[0], EchoStub(channel))
