"""A wallet service for each test, on a clean database, with a customer to charge."""

from __future__ import annotations

import pytest

from tests.conftest import MakeDatabase
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.wallet.client import WalletClient


@pytest.fixture
async def wallet_database(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("wallet")


@pytest.fixture
async def client(services: Services, wallet_database: FreshDatabase) -> WalletClient:
    """Calls of one tenant to a wallet service without background work."""
    await services.run("wallet", wallet_database, work=False)
    return WalletClient(await services.channel("wallet"))
