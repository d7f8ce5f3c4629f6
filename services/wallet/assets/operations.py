"""Creating and finding assets, and the scales that amounts are read with."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from chassis.call import Call
from chassis.database import Database
from chassis.paging import Page
from chassis.requests import claim, record
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.assets import store
from wallet.assets.domain import Asset
from wallet.assets.wire import render_asset
from wallet.ledger.domain.refusals import AlreadyExists

SCALES_MAX = 100_000  # remembered, over all tenants


class Scales:
    """Decimal places by tenant and asset, remembered: a scale never changes once it is there."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._scales: dict[tuple[UUID, str], int] = {}

    async def of(self, tenant_id: UUID, codes: Iterable[str]) -> dict[str, int]:
        """The scales of those codes that exist."""
        known: dict[str, int] = {}
        unknown: list[str] = []
        for code in codes:
            scale = self._scales.get((tenant_id, code))
            if scale is None:
                unknown.append(code)
            else:
                known[code] = scale
        if unknown:
            async with self._database.transaction(tenant_id) as tx:
                found = await store.list_scales(tx, tenant_id, unknown)
            if len(self._scales) + len(found) > SCALES_MAX:
                self._scales.clear()
            for code, scale in found.items():
                self._scales[tenant_id, code] = known[code] = scale
        return known


async def create_asset(
    database: Database, call: Call, request: pb.CreateAssetRequest, asset: Asset
) -> pb.CreateAssetResponse:
    """Create an asset once. Raises AlreadyExists, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.CreateAssetResponse.FromString(recorded)
        if not await store.insert_asset(tx, call.tenant_id, asset):
            raise AlreadyExists("asset", asset.code)
        response = pb.CreateAssetResponse(asset=render_asset(asset))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def list_assets(database: Database, tenant_id: UUID, page: Page) -> list[Asset]:
    """One asset more than the page holds, where there are more."""
    async with database.transaction(tenant_id) as tx:
        after = page.after[0] if page.after else ""
        return await store.list_assets(tx, tenant_id, after, page.size + 1)
