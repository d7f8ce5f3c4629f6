"""Invoicing running in this process for one test, and words to speak with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.gateway.support import SandboxProcess
from tests.invoicing.company import Company, open_company
from tests.invoicing.support import Books
from tests.support.databases import FreshDatabase
from tests.support.services import Services


@pytest.fixture
def tenant_id() -> UUID:
    """A tenant of this test's own."""
    return uuid4()


@pytest.fixture
async def books(database: FreshDatabase, services: Services, tenant_id: UUID) -> Books:
    """Invoicing alone, for what needs no other service."""
    await services.run("invoicing", database)
    return Books(await services.channel("invoicing"), tenant_id)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[SandboxProcess]:
    """The payment provider, as a process of its own."""
    process = SandboxProcess(tmp_path / "journal")
    await process.start()
    yield process
    await process.stop()


@pytest.fixture
async def company(database: FreshDatabase, sandbox: SandboxProcess, services: Services) -> Company:
    """A tenant with every service, on 1 January 2025 by its test clock."""
    return await open_company(services, database, sandbox, datetime(2025, 1, 1, tzinfo=UTC))
