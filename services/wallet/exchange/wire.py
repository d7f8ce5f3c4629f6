"""Rates and conversions on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from chassis.call import Call
from chassis.wire import find_time, parse_asset_code, parse_text, render_time
from kernel.errors import InvalidValue, NotFound
from kernel.money import format_atoms, format_decimal, parse_decimal
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import exchange_service_pb2 as pb
from wallet.exchange.store import Rate
from wallet.ledger.domain.answers import Converted
from wallet.ledger.domain.items import ConvertItem
from wallet.ledger.domain.outcomes import Outcome
from wallet.ledger.wire import parse_id, parse_item_amount, parse_keyed, unexpected


def parse_rate(request: pb.PutExchangeRateRequest, known: Mapping[str, int], now: datetime) -> Rate:
    """Raises InvalidValue naming the field, NotFound for an unknown asset."""
    from_asset = parse_asset_code(request.from_asset, "from_asset")
    to_asset = parse_asset_code(request.to_asset, "to_asset")
    for code in (from_asset, to_asset):
        if code not in known:
            raise NotFound("asset", code)
    if from_asset == to_asset:
        raise InvalidValue("to_asset", "is from_asset")
    rate = parse_decimal(request.rate, "rate")
    if rate <= 0:
        raise InvalidValue("rate", "must be greater than zero")
    return Rate(from_asset, to_asset, find_time(request, "effective_time") or now, rate, now)


def parse_conversion(
    request: pb.ConvertAssetRequest, call: Call, scales: Mapping[str, int]
) -> ConvertItem:
    """Raises InvalidValue naming the field."""
    asset, scale, atoms = parse_item_amount(request.amount, scales)
    to_asset = parse_asset_code(request.to_asset, "to_asset")
    if to_asset == asset:
        raise InvalidValue("to_asset", "is the asset that is given")
    return ConvertItem(
        *parse_keyed(request, b"CV", call),
        parse_id(request.wallet_id, "wallet_id"),
        asset,
        scale,
        parse_text(request.reason, "reason", minimum=0),
        "",
        call.caller,
        atoms,
        to_asset,
        scales.get(to_asset),
        find_time(request, "expire_time"),
    )


def render_rate(rate: Rate) -> pb.ExchangeRate:
    return pb.ExchangeRate(
        from_asset=rate.from_asset,
        to_asset=rate.to_asset,
        rate=format_decimal(rate.rate),
        effective_time=render_time(rate.effective_time),
        create_time=render_time(rate.create_time),
    )


def render_converted(outcome: Outcome) -> pb.ConvertAssetResponse:
    if not isinstance(outcome, Converted):
        raise unexpected(outcome)
    return pb.ConvertAssetResponse(
        spent=amount_pb2.Amount(
            asset=outcome.from_asset, value=format_atoms(outcome.spent, outcome.from_scale)
        ),
        residual=format_atoms(outcome.residual, outcome.from_scale),
        gained=amount_pb2.Amount(
            asset=outcome.to_asset, value=format_atoms(outcome.gained, outcome.to_scale)
        ),
        rate=format_decimal(outcome.rate),
        rate_time=render_time(outcome.rate_time),
        grant_id=outcome.grant_id,
        from_transfer_id=f"{outcome.wallet_id}/{outcome.from_sequence}",
        to_transfer_id=f"{outcome.wallet_id}/{outcome.to_sequence}",
        replayed=outcome.replayed,
    )
