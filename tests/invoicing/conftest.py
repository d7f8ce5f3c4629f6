"""Invoicing running in this process for one test, and words to speak with it."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tests.invoicing.support import Books
from tests.support.databases import FreshDatabase
from tests.support.services import Services


@pytest.fixture
def tenant_id() -> UUID:
    """A tenant of this test's own."""
    return uuid4()


@pytest.fixture
async def books(services: Services, database: FreshDatabase, tenant_id: UUID) -> Books:
    """Invoicing alone, for what needs no other service."""
    await services.run("invoicing", database)
    return Books(await services.channel("invoicing"), tenant_id)
