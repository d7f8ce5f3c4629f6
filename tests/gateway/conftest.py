"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.support import Desk, SandboxProcess, open_desk
from tests.support.databases import FreshDatabase
from tests.support.services import Services


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[SandboxProcess]:
    """The sandbox as a process of its own, with empty books."""
    process = SandboxProcess(tmp_path / "journal")
    await process.start()
    yield process
    await process.stop()


@pytest.fixture
async def gateway_database(fresh_database) -> FreshDatabase:  # type: ignore[no-untyped-def]
    """A clean database with the gateway's schema."""
    made: FreshDatabase = await fresh_database("gateway")
    return made


@pytest.fixture
async def desk(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> Desk:
    """A gateway with one provider account, whose jobs run when a test says so."""
    opened = await open_desk(services, gateway_database, sandbox)
    await opened.open_account()
    return opened
