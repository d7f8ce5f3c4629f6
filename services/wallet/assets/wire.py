"""Assets on the wire."""

from __future__ import annotations

from datetime import datetime

from chassis.wire import parse_asset_code, parse_count, parse_member, render_time
from kernel.money import SCALE_MAX
from tollgate.wallet.v1 import wallet_pb2
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.assets.domain import Asset, AssetKind

KINDS = {int(kind): kind for kind in AssetKind}


def parse_asset(request: pb.CreateAssetRequest, now: datetime) -> Asset:
    """An asset to create. Raises InvalidValue naming the field."""
    return Asset(
        parse_asset_code(request.code, "code"),
        parse_count(request.scale, "scale", minimum=0, maximum=SCALE_MAX),
        parse_member(request.kind, KINDS, "kind"),
        now,
    )


def render_asset(asset: Asset) -> wallet_pb2.Asset:
    return wallet_pb2.Asset(
        code=asset.code,
        scale=asset.scale,
        kind=wallet_pb2.AssetKind.ValueType(int(asset.kind)),
        create_time=render_time(asset.create_time),
    )
