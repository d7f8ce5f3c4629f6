"""Words in which the tests of invoicing speak to the services."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.call import Environment
from chassis.clocks import CLOCK_VERSION
from chassis.peers import RemoteRefusal
from chassis.refusals import from_rpc_error
from tests.support.services import credential
from tollgate.invoicing.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    coupon_pb2,
    coupon_pb2_grpc,
    credit_note_pb2,
    credit_note_pb2_grpc,
    customer_pb2,
    customer_pb2_grpc,
    entitlement_pb2,
    entitlement_pb2_grpc,
    invoice_pb2,
    invoice_pb2_grpc,
    received_payment_pb2,
    received_payment_pb2_grpc,
    subscription_pb2,
    subscription_pb2_grpc,
)
from tollgate.type.v1 import amount_pb2, price_pb2


def at(*parts: int) -> Timestamp:
    """The timestamp of a UTC wall time: `at(2025, 1, 31)`."""
    stamp = Timestamp()
    stamp.FromDatetime(datetime(*parts, tzinfo=UTC))  # type: ignore[misc, arg-type]
    return stamp


def moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def fixed(amount: str, *, code: str = "base", asset: str = "USD", **fields: Any) -> Any:
    """A fixed monthly fee."""
    return catalog_pb2.PlanPrice(
        code=code,
        description="Base fee",
        kind=catalog_pb2.PRICE_KIND_FIXED,
        pricing=price_pb2.Price(asset=asset, flat=price_pb2.FlatModel(amount=amount)),
        **fields,
    )


def seat(amount: str, *, code: str = "seat", asset: str = "USD", **fields: Any) -> Any:
    """A price per seat."""
    unit = price_pb2.UnitModel(unit_price=amount)
    return catalog_pb2.PlanPrice(
        code=code,
        description="Seat",
        kind=catalog_pb2.PRICE_KIND_SEAT,
        pricing=price_pb2.Price(asset=asset, seat=price_pb2.SeatModel(unit=unit)),
        **fields,
    )


def usage(pricing: price_pb2.Price, *, meter: str, code: str = "usage", **fields: Any) -> Any:
    """A price of a meter."""
    return catalog_pb2.PlanPrice(
        code=code,
        description=f"Usage of {meter}",
        kind=catalog_pb2.PRICE_KIND_USAGE,
        meter=meter,
        pricing=pricing,
        **fields,
    )


def granting(feature_code: str, *limits: Any, per: str = "", **fields: Any) -> Any:
    """What a plan grants of a feature; texts are limits in the default window."""
    return catalog_pb2.PlanEntitlement(
        feature_code=feature_code, value=worth(*limits, **fields), per_price_code=per
    )


def worth(*limits: Any, **fields: Any) -> catalog_pb2.EntitlementValue:
    """A value of a feature; texts are limits in the default window."""
    stated = [
        catalog_pb2.UsageLimit(quantity=one) if isinstance(one, str) else one for one in limits
    ]
    return catalog_pb2.EntitlementValue(limits=stated, **fields)


def payment(
    value: str,
    named: dict[str, str] | None = None,
    *,
    customer_id: str = "acme",
    asset: str = "USD",
) -> received_payment_pb2.RecordPaymentRequest:
    """The request of a payment by hand."""
    return received_payment_pb2.RecordPaymentRequest(
        customer_id=customer_id,
        amount=amount_pb2.Amount(asset=asset, value=value),
        reference="bank transfer",
        allocations=[
            received_payment_pb2.PaymentAllocation(invoice_id=invoice_id, amount=amount)
            for invoice_id, amount in (named or {}).items()
        ],
    )


def crediting(
    invoice_id: str, lines: dict[int, str] | None = None, **fields: Any
) -> credit_note_pb2.CreateCreditNoteRequest:
    """The request of a credit note: amounts by position, or with none all that is left."""
    given = {"reason": credit_note_pb2.CREDIT_REASON_SERVICE} | fields
    return credit_note_pb2.CreateCreditNoteRequest(
        invoice_id=invoice_id,
        lines=[
            credit_note_pb2.CreditNoteLine(position=position, amount=amount)
            for position, amount in (lines or {}).items()
        ],
        **given,
    )


class Books:
    """A tenant's invoicing, through gRPC as our own operator program."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        tenant_id: UUID,
        environment: Environment = Environment.LIVE,
    ) -> None:
        self.tenant_id = tenant_id
        self.environment = environment
        self.clock_version = 0
        self.customers = customer_pb2_grpc.CustomerServiceStub(channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        self.entitlements = entitlement_pb2_grpc.EntitlementServiceStub(channel)
        self.subscriptions = subscription_pb2_grpc.SubscriptionServiceStub(channel)
        self.invoices = invoice_pb2_grpc.InvoiceServiceStub(channel)
        self.taxes = invoice_pb2_grpc.TaxServiceStub(channel)
        self.sellers = invoice_pb2_grpc.SellerServiceStub(channel)
        self.coupons = coupon_pb2_grpc.CouponServiceStub(channel)
        self.notes = credit_note_pb2_grpc.CreditNoteServiceStub(channel)
        self.received = received_payment_pb2_grpc.ReceivedPaymentServiceStub(channel)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        pairs = credential(self.tenant_id, environment=self.environment)
        return (*pairs, (CLOCK_VERSION, str(self.clock_version))) if self.clock_version else pairs

    async def call(self, method: Callable[..., Any], request: Any) -> Any:
        """Call a method; raises RemoteRefusal with the reason and facts."""
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            request.request_id = uuid4().hex
        try:
            return await method(request, metadata=self.metadata(), timeout=20)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def refused(self, method: Callable[..., Any], request: Any) -> RemoteRefusal:
        """The refusal that a call ends with."""
        try:
            await self.call(method, request)
        except RemoteRefusal as refusal:
            return refusal
        raise AssertionError(f"{request.DESCRIPTOR.name} was not refused")

    async def customer(self, customer_id: str = "acme", **fields: Any) -> Any:
        given = {"name": "Acme Ltd", "country": "GB", "currency": "USD"} | fields
        answer = await self.call(
            self.customers.CreateCustomer,
            customer_pb2.CreateCustomerRequest(
                customer=customer_pb2.Customer(customer_id=customer_id, **given)
            ),
        )
        return answer.customer

    async def draft(self, *prices: Any, code: str = "pro", **fields: Any) -> Any:
        plan = catalog_pb2.Plan(code=code, name=code.title(), prices=prices, **fields)
        answer = await self.call(self.catalog.CreatePlan, catalog_pb2.CreatePlanRequest(plan=plan))
        return answer.plan

    async def publish(self, *prices: Any, code: str = "pro", **fields: Any) -> Any:
        draft = await self.draft(*prices, code=code, **fields)
        answer = await self.call(
            self.catalog.PublishPlan,
            catalog_pb2.PublishPlanRequest(code=code, version=draft.version),
        )
        return answer.plan

    async def subscribe(
        self, customer_id: str = "acme", plan_code: str = "pro", **fields: Any
    ) -> Any:
        answer = await self.call(
            self.subscriptions.CreateSubscription,
            subscription_pb2.CreateSubscriptionRequest(
                customer_id=customer_id, plan_code=plan_code, **fields
            ),
        )
        return answer.subscription

    async def cancel(self, subscription_id: str, *, immediately: bool = False) -> Any:
        answer = await self.call(
            self.subscriptions.CancelSubscription,
            subscription_pb2.CancelSubscriptionRequest(
                subscription_id=subscription_id, immediately=immediately
            ),
        )
        return answer.subscription

    async def rate_card(self, customer_id: str = "acme") -> Any:
        answer = await self.call(
            self.catalog.GetRateCards,
            catalog_pb2.GetRateCardsRequest(customer_ids=[customer_id]),
        )
        return answer.rate_cards[0]

    async def feature(self, code: str, kind: str, **fields: Any) -> entitlement_pb2.Feature:
        """A feature of a kind: "BOOLEAN", "CONFIG" or "METERED"."""
        number = catalog_pb2.FeatureKind.Value(f"FEATURE_KIND_{kind}")
        given = {"name": code.title(), "kind": number} | fields
        answer = await self.call(
            self.entitlements.SetFeature,
            entitlement_pb2.SetFeatureRequest(feature=entitlement_pb2.Feature(code=code, **given)),
        )
        found: entitlement_pb2.Feature = answer.feature
        return found

    async def entitled(self, customer_id: str = "acme") -> dict[str, catalog_pb2.Entitlement]:
        """What a customer may do, by feature."""
        held = await self.holding(customer_id)
        return {one.feature_code: one for one in held.entitlements}

    async def holding(self, customer_id: str = "acme") -> entitlement_pb2.CustomerEntitlements:
        answer = await self.call(
            self.entitlements.GetEntitlements,
            entitlement_pb2.GetEntitlementsRequest(customer_ids=[customer_id]),
        )
        found: entitlement_pb2.CustomerEntitlements = answer.customers[0]
        return found

    async def list_invoices(self, customer_id: str = "") -> list[Any]:
        answer = await self.call(
            self.invoices.ListInvoices,
            invoice_pb2.ListInvoicesRequest(customer_id=customer_id, page_size=1_000),
        )
        return list(answer.invoices)

    async def tax(self, country: str, rate: str, name: str = "VAT", **fields: Any) -> None:
        await self.call(
            self.taxes.SetTaxRate,
            invoice_pb2.SetTaxRateRequest(
                tax_rate=invoice_pb2.TaxRate(
                    country=country, category="standard", name=name, rate=rate, **fields
                )
            ),
        )

    async def invoice(self, invoice_id: str) -> invoice_pb2.Invoice:
        answer = await self.call(
            self.invoices.GetInvoice, invoice_pb2.GetInvoiceRequest(invoice_id=invoice_id)
        )
        found: invoice_pb2.Invoice = answer.invoice
        return found

    async def one_off(self, *prices: str, customer_id: str = "acme", **fields: Any) -> Any:
        """An invoice with one line per price."""
        answer = await self.call(
            self.invoices.CreateInvoice,
            invoice_pb2.CreateInvoiceRequest(
                customer_id=customer_id,
                lines=[
                    invoice_pb2.OneOffLine(description=f"Work at {price}", unit_price=price)
                    for price in prices
                ],
                **fields,
            ),
        )
        return answer.invoice

    async def void(self, invoice_id: str, **fields: Any) -> Any:
        given = {"reason": "typed wrongly"} | fields
        return await self.call(
            self.invoices.VoidInvoice,
            invoice_pb2.VoidInvoiceRequest(invoice_id=invoice_id, **given),
        )

    async def pay(
        self, value: str, named: dict[str, str] | None = None, **fields: Any
    ) -> received_payment_pb2.ReceivedPayment:
        """A payment by hand, part of it for named invoices."""
        answer = await self.call(self.received.RecordPayment, payment(value, named, **fields))
        found: received_payment_pb2.ReceivedPayment = answer.payment
        return found

    async def balance(self, customer_id: str = "acme") -> dict[str, str]:
        answer = await self.call(
            self.received.GetCustomerBalance,
            received_payment_pb2.GetCustomerBalanceRequest(customer_id=customer_id),
        )
        return {amount.asset: amount.value for amount in answer.balances}

    async def credit(
        self, invoice_id: str, lines: dict[int, str] | None = None, **fields: Any
    ) -> credit_note_pb2.CreditNote:
        answer = await self.call(
            self.notes.CreateCreditNote, crediting(invoice_id, lines, **fields)
        )
        found: credit_note_pb2.CreditNote = answer.credit_note
        return found

    async def coupon(self, code: str, **fields: Any) -> coupon_pb2.Coupon:
        """A coupon: of an amount in dollars where `amount` is text."""
        if isinstance(fields.get("amount"), str):
            fields["amount"] = amount_pb2.Amount(asset="USD", value=fields["amount"])
        coupon = coupon_pb2.Coupon(code=code, name=fields.pop("name", code.title()), **fields)
        answer = await self.call(
            self.coupons.CreateCoupon, coupon_pb2.CreateCouponRequest(coupon=coupon)
        )
        made: coupon_pb2.Coupon = answer.coupon
        return made

    async def attach(self, code: str, customer_id: str = "acme") -> coupon_pb2.CustomerCoupon:
        answer = await self.call(
            self.coupons.AttachCoupon,
            coupon_pb2.AttachCouponRequest(customer_id=customer_id, code=code),
        )
        held: coupon_pb2.CustomerCoupon = answer.customer_coupon
        return held
