"""TaxService."""

from __future__ import annotations

from datetime import UTC, datetime

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from invoicing.operations import once
from invoicing.taxes import store
from invoicing.taxes.wire import parse_tax_rate, render_tax_rate
from tollgate.invoicing.v1 import invoice_pb2 as pb

BEFORE_ALL = ("", "", datetime(1, 1, 1, tzinfo=UTC))


class TaxServicer:
    """State and list tax rates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def SetTaxRate(self, request: pb.SetTaxRateRequest, call: Call) -> pb.SetTaxRateResponse:
        rate = parse_tax_rate(request.tax_rate)

        async def change(tx: Connection) -> pb.SetTaxRateResponse:
            await store.save_tax_rate(tx, call.tenant_id, rate)
            return pb.SetTaxRateResponse(tax_rate=render_tax_rate(rate))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.SetTaxRateResponse,
            change,
        )

    async def ListTaxRates(
        self, request: pb.ListTaxRatesRequest, call: Call
    ) -> pb.ListTaxRatesResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=3)
        after = BEFORE_ALL
        if page.after:
            country, category, start_time = page.after
            after = (country, category, datetime.fromisoformat(start_time))
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_tax_rates(tx, call.tenant_id, after, page.size + 1)
        shown = found[: page.size]
        token = ""
        if len(found) > page.size:
            last = shown[-1]
            token = next_token(last.country, last.category, last.start_time.isoformat())
        return pb.ListTaxRatesResponse(
            tax_rates=[render_tax_rate(rate) for rate in shown], next_page_token=token
        )
