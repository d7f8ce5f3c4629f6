"""AssetService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.assets import operations
from wallet.assets.wire import parse_asset, render_asset


class AssetService:
    """Units of value."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreateAsset(
        self, request: pb.CreateAssetRequest, call: Call
    ) -> pb.CreateAssetResponse:
        asset = parse_asset(request, call.now)
        return await operations.create_asset(self._database, call, request, asset)

    async def ListAssets(self, request: pb.ListAssetsRequest, call: Call) -> pb.ListAssetsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        assets = await operations.list_assets(self._database, call.tenant_id, page)
        more = len(assets) > page.size
        assets = assets[: page.size]
        return pb.ListAssetsResponse(
            assets=[render_asset(asset) for asset in assets],
            next_page_token=next_token(assets[-1].code) if more else "",
        )
