"""One example of the service's own ledger on a real Postgres against the small model."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st

from chassis.database import Database
from kernel.money import Amount, Asset
from tests.wallet.worlds import (
    ASSET,
    CUSTOMER,
    SCALE,
    START,
    Shape,
    World,
    operations,
    waits,
    wallet_id_of,
)
from wallet.assets import store as assets
from wallet.assets.domain import Asset as StoredAsset
from wallet.assets.domain import AssetKind
from wallet.grants.store import LAST_ID, list_grants
from wallet.journal.store import verify_wallets
from wallet.ledger.domain.values import ShortfallMode, WalletState
from wallet.ledger.operations import open_ledger
from wallet.wallets import store as wallets
from wallet.wallets.domain import Wallet
from wallet.wallets.operations import FIRST_ID

batches = st.lists(
    st.tuples(st.one_of(st.just(0), waits), st.lists(operations, min_size=1, max_size=10)),
    min_size=2,
    max_size=8,
)


async def _open_world(database: Database, tenant_id: UUID, shape: list[Shape]) -> None:
    async with database.transaction(tenant_id) as tx:
        asset = StoredAsset(ASSET, SCALE, AssetKind.CURRENCY, START)
        await assets.insert_asset(tx, tenant_id, asset)
        for index, (priority, mode, floor, meters) in enumerate(shape):
            limits = (Amount(Asset(ASSET, SCALE), floor),) if mode == "OVERDRAFT" else ()
            wallet = Wallet(
                wallet_id_of(str(tenant_id), index),
                CUSTOMER,
                "",
                priority,
                (meters, (), ()) if meters else None,
                ShortfallMode[mode],
                False,
                WalletState.ACTIVE,
                START,
                limits,
            )
            await wallets.insert_wallet(tx, tenant_id, wallet)


async def live(database: Database, shape: list[Shape], chosen: list[Any]) -> None:
    """Live through batches and the waits between them, and compare every answer and the end."""
    tenant_id = uuid4()
    await _open_world(database, tenant_id, shape)
    async with open_ledger(database, 2) as ledger:
        # So that grants go to their customer's lane, and the order of a batch is kept.
        ids = [wallet_id_of(str(tenant_id), index) for index in range(len(shape))]
        await ledger.routes.find_wallets(str(tenant_id), ids)
        world = World.of(str(tenant_id), ledger, shape)
        first = [("grant", i, 20, 50, 1, None, None, ()) for i in range(len(shape))]
        await world.batch(first * 3)
        for position, (seconds, operations_of_batch) in enumerate(chosen):
            world.now += timedelta(seconds=seconds)
            await world.batch(operations_of_batch)
            await world.repeat(position * 3)
    async with database.transaction(tenant_id) as tx:
        verified = await verify_wallets(tx, tenant_id, FIRST_ID, 100)
        assert verified.wallets == len(shape)
        assert verified.disagreements == []
        grants = [
            (grant, held)
            for wallet_id in ids
            for grant, held in await list_grants(tx, tenant_id, wallet_id, LAST_ID, 1000)
        ]
        world.check_grants({grant.grant_id: grant.remaining - held for grant, held in grants})
