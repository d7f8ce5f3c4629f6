"""ExchangeService."""

from __future__ import annotations

from datetime import UTC, datetime

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.requests import claim, record
from chassis.wire import parse_request_id, parse_text
from kernel.errors import InvalidValue
from tollgate.wallet.v1 import exchange_service_pb2 as pb
from wallet.assets.operations import Scales
from wallet.exchange import store
from wallet.exchange.wire import parse_conversion, parse_rate, render_converted, render_rate
from wallet.ledger.domain.refusals import AlreadyExists
from wallet.ledger.operations import Ledger
from wallet.ledger.wire import answered

EARLIEST = datetime(1, 1, 1, tzinfo=UTC)


class ExchangeService:
    """Dated rates, and conversions at them."""

    def __init__(self, ledger: Ledger, scales: Scales, database: Database) -> None:
        self._ledger = ledger
        self._scales = scales
        self._database = database

    async def PutExchangeRate(
        self, request: pb.PutExchangeRateRequest, call: Call
    ) -> pb.PutExchangeRateResponse:
        parse_request_id(request.request_id)
        codes = {request.from_asset, request.to_asset}
        rate = parse_rate(request, await self._scales.of(call.tenant_id, codes), call.now)
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.PutExchangeRateResponse.FromString(recorded)
            if not await store.insert_rate(tx, call.tenant_id, rate):
                name = f"{rate.from_asset}/{rate.to_asset} {rate.effective_time.isoformat()}"
                raise AlreadyExists("exchange rate", name)
            response = pb.PutExchangeRateResponse(rate=render_rate(rate))
            await record(tx, call.tenant_id, request.request_id, response)
            return response

    async def ListExchangeRates(
        self, request: pb.ListExchangeRatesRequest, call: Call
    ) -> pb.ListExchangeRatesResponse:
        parse_text(request.from_asset, "from_asset", minimum=0)
        parse_text(request.to_asset, "to_asset", minimum=0)
        page = parse_page(request.page_size, request.page_token, key_parts=3)
        after = ("", "", EARLIEST)
        if page.after:
            after = (page.after[0], page.after[1], _read_time(page.after[2]))
        async with self._database.transaction(call.tenant_id) as tx:
            rates = await store.list_rates(
                tx, call.tenant_id, request.from_asset, request.to_asset, after, page.size + 1
            )
        more = len(rates) > page.size
        rates = rates[: page.size]
        token = ""
        if more:
            last = rates[-1]
            token = next_token(last.from_asset, last.to_asset, last.effective_time.isoformat())
        return pb.ListExchangeRatesResponse(
            rates=[render_rate(rate) for rate in rates], next_page_token=token
        )

    async def ConvertAsset(
        self, request: pb.ConvertAssetRequest, call: Call
    ) -> pb.ConvertAssetResponse:
        codes = {request.amount.asset, request.to_asset}
        item = parse_conversion(request, call, await self._scales.of(call.tenant_id, codes))
        await self._ledger.routes.find_wallets(item.tenant_id, [item.wallet_id])
        (outcome,) = await self._ledger.apply_items([item])
        return render_converted(answered(outcome))


def _read_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue("page_token", "is not from this list") from None
