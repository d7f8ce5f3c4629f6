"""Wiring: what invoicing serves and what it works on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.messages import Consumer, Relay
from chassis.platform import Platform
from chassis.server import bind
from chassis.service import App, Job, ServiceDefinition
from invoicing.catalog.rpc import CatalogServicer
from invoicing.collection.jobs import Collector, PaymentListener
from invoicing.config import Config
from invoicing.coupons.rpc import CouponServicer
from invoicing.credits.rpc import CreditNoteServicer
from invoicing.customers.rpc import CustomerServicer
from invoicing.entitlements.rpc import EntitlementServicer
from invoicing.invoices.operations import UsageReader
from invoicing.invoices.rpc import InvoiceServicer
from invoicing.payments.rpc import ReceivedPaymentServicer
from invoicing.recharges.operations import RechargeStarts
from invoicing.refunds.jobs import RefundSender
from invoicing.runs.jobs import BillingWorker, SelfBilling
from invoicing.sellers.rpc import SellerServicer
from invoicing.subscriptions.rpc import SubscriptionServicer
from invoicing.taxes.rpc import TaxServicer
from tollgate.invoicing.v1 import (
    catalog_pb2,
    coupon_pb2,
    credit_note_pb2,
    customer_pb2,
    entitlement_pb2,
    invoice_pb2,
    received_payment_pb2,
    subscription_pb2,
)

PAYMENT_KINDS = (
    "payment.succeeded",
    "payment.declined",
    "payment.failed",
    "payment.action_required",
    "payment.reversed",
    "payment.unknown",
)
REFUND_KINDS = ("refund.succeeded", "refund.failed", "refund.reversed")


@asynccontextmanager
async def open_app(platform: Platform) -> AsyncIterator[App]:
    database, peers = platform.database, platform.peers
    settings = platform.settings
    assert isinstance(settings, Config)
    reader = UsageReader(peers)
    # Each knows the other: what is issued is collected, and runs go before collecting them.
    worker = BillingWorker(
        database,
        reader,
        settings.billing_parallelism,
        issued=lambda: collector.wake(),  # noqa: PLW0108  it is made below
    )
    collector = Collector(database, peers, platform.clocks, billing=lambda: worker.is_busy)
    listener = PaymentListener(database, platform.clocks)
    recharges = RechargeStarts(database, peers, platform.clocks, issued=collector.wake)
    refunds = RefundSender(database, peers)
    scheduler = SelfBilling(database, platform.clocks, settings.grace_seconds)
    consumer = Consumer(
        platform,
        ["wallet", "gateway"],
        {
            "wallet.recharge_due": recharges.on_recharge_due,
            **dict.fromkeys(PAYMENT_KINDS, listener.on_payment_changed),
            **dict.fromkeys(REFUND_KINDS, refunds.on_refund_changed),
        },
        # Reserved payments are somebody else's: invoices are collected at once.
        ignored=["wallet.balance_low", "payment.authorized", "payment.canceled"],
    )
    served = (
        (CustomerServicer(database), customer_pb2, "CustomerService"),
        (CatalogServicer(database, peers), catalog_pb2, "CatalogService"),
        (EntitlementServicer(database, peers), entitlement_pb2, "EntitlementService"),
        (SubscriptionServicer(database, peers, reader), subscription_pb2, "SubscriptionService"),
        (InvoiceServicer(database, reader, collector.wake), invoice_pb2, "InvoiceService"),
        (CouponServicer(database), coupon_pb2, "CouponService"),
        (CreditNoteServicer(database), credit_note_pb2, "CreditNoteService"),
        (ReceivedPaymentServicer(database), received_payment_pb2, "ReceivedPaymentService"),
        (TaxServicer(database), invoice_pb2, "TaxService"),
        (SellerServicer(database), invoice_pb2, "SellerService"),
    )
    yield App(
        bindings=[
            bind(servicer, module.DESCRIPTOR.services_by_name[name])
            for servicer, module, name in served
        ],
        jobs=[
            Job("relay", Relay(database, platform.redis, "invoicing").run),
            Job("consumer", consumer.run),
            Job("billing", worker.run),
            Job("self_billing", scheduler.run),
            Job("collection", collector.run),
            Job("refunds", refunds.run),
        ],
    )


SERVICE = ServiceDefinition(
    name="invoicing", config=Config, open=open_app, migrations="invoicing.migrations"
)
