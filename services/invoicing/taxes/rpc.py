"""TaxService."""

from __future__ import annotations

from datetime import UTC, datetime

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.wire import find_time, parse_uuid
from invoicing.customers.wire import parse_customer_id
from invoicing.operations import once
from invoicing.taxes import operations, store, wire
from invoicing.taxes.domain.tax_ids import compact_tax_id
from tollgate.invoicing.v1 import invoice_pb2 as pb
from tollgate.invoicing.v1 import tax_pb2

BEFORE_ALL: store.RateKey = ("", "", "", "", datetime(1, 1, 1, tzinfo=UTC))


class TaxServicer:
    """State and list tax rates, exemptions, and when prepaid value is taxed; check tax ids."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def SetTaxRate(self, request: pb.SetTaxRateRequest, call: Call) -> pb.SetTaxRateResponse:
        rate = wire.parse_tax_rate(request.tax_rate)

        async def change(tx: Connection) -> pb.SetTaxRateResponse:
            await store.save_tax_rate(tx, call.tenant_id, rate)
            return pb.SetTaxRateResponse(tax_rate=wire.render_tax_rate(rate))

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
        page = parse_page(request.page_size, request.page_token, key_parts=5)
        after = BEFORE_ALL
        if page.after:
            country, region, category, component, start_time = page.after
            after = country, region, category, component, datetime.fromisoformat(start_time)
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_tax_rates(tx, call.tenant_id, after, page.size + 1)
        shown = found[: page.size]
        token = ""
        if len(found) > page.size:
            last = shown[-1]
            token = next_token(
                last.country,
                last.region,
                last.category,
                last.component,
                last.start_time.isoformat(),
            )
        return pb.ListTaxRatesResponse(
            tax_rates=[wire.render_tax_rate(rate) for rate in shown], next_page_token=token
        )

    async def CheckTaxId(
        self, request: tax_pb2.CheckTaxIdRequest, call: Call
    ) -> tax_pb2.CheckTaxIdResponse:
        text, kind = wire.parse_tax_id(request)
        try:
            return tax_pb2.CheckTaxIdResponse(valid=True, compact=compact_tax_id(text, kind))
        except ValueError as error:
            return tax_pb2.CheckTaxIdResponse(problem=str(error))

    async def CreateTaxExemption(
        self, request: tax_pb2.CreateTaxExemptionRequest, call: Call
    ) -> tax_pb2.CreateTaxExemptionResponse:
        exemption = wire.parse_exemption(request.exemption, call.now)

        async def change(tx: Connection) -> tax_pb2.CreateTaxExemptionResponse:
            made = await operations.create_exemption(tx, call.tenant_id, exemption)
            return tax_pb2.CreateTaxExemptionResponse(exemption=wire.render_exemption(made))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            tax_pb2.CreateTaxExemptionResponse,
            change,
        )

    async def ListTaxExemptions(
        self, request: tax_pb2.ListTaxExemptionsRequest, call: Call
    ) -> tax_pb2.ListTaxExemptionsResponse:
        customer_id = parse_customer_id(request.customer_id)
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        before = parse_uuid(page.after[0], "page_token") if page.after else None
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_exemptions(
                tx, call.tenant_id, customer_id, before, page.size + 1
            )
        shown = found[: page.size]
        more = len(found) > page.size
        return tax_pb2.ListTaxExemptionsResponse(
            exemptions=[wire.render_exemption(one) for one in shown],
            next_page_token=next_token(str(shown[-1].exemption_id)) if more else "",
        )

    async def EndTaxExemption(
        self, request: tax_pb2.EndTaxExemptionRequest, call: Call
    ) -> tax_pb2.EndTaxExemptionResponse:
        exemption_id = parse_uuid(request.exemption_id, "exemption_id")
        end_time = find_time(request, "end_time") or call.now

        async def change(tx: Connection) -> tax_pb2.EndTaxExemptionResponse:
            ended = await operations.end_exemption(tx, call.tenant_id, exemption_id, end_time)
            return tax_pb2.EndTaxExemptionResponse(exemption=wire.render_exemption(ended))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            tax_pb2.EndTaxExemptionResponse,
            change,
        )

    async def SetPrepaidTax(
        self, request: tax_pb2.SetPrepaidTaxRequest, call: Call
    ) -> tax_pb2.SetPrepaidTaxResponse:
        asset, timing = wire.parse_prepaid_tax(request.prepaid_tax)

        async def change(tx: Connection) -> tax_pb2.SetPrepaidTaxResponse:
            await operations.set_prepaid_tax(tx, call.tenant_id, asset, timing)
            return tax_pb2.SetPrepaidTaxResponse(prepaid_tax=wire.render_prepaid_tax(asset, timing))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            tax_pb2.SetPrepaidTaxResponse,
            change,
        )

    async def ListPrepaidTaxes(
        self, request: tax_pb2.ListPrepaidTaxesRequest, call: Call
    ) -> tax_pb2.ListPrepaidTaxesResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = page.after[0] if page.after else ""
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_prepaid_taxes(tx, call.tenant_id, after, page.size + 1)
        shown = found[: page.size]
        more = len(found) > page.size
        return tax_pb2.ListPrepaidTaxesResponse(
            prepaid_taxes=[wire.render_prepaid_tax(*one) for one in shown],
            next_page_token=next_token(shown[-1][0]) if more else "",
        )
