"""The asynchronous client: one channel per service, one credential, retries by key.

Everything that changes something carries a key, so a call whose answer was lost is sent again as it
is: the service answers what it answered first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import tenacity

from tollgate.gateway.v1 import payment_service_pb2_grpc as payments
from tollgate.identity.v1 import identity_service_pb2_grpc as identities
from tollgate.invoicing.v1 import catalog_pb2_grpc as catalogs
from tollgate.invoicing.v1 import coupon_pb2_grpc as coupons
from tollgate.invoicing.v1 import credit_note_pb2_grpc as credit_notes
from tollgate.invoicing.v1 import customer_pb2_grpc as customers
from tollgate.invoicing.v1 import entitlement_pb2_grpc as entitlements
from tollgate.invoicing.v1 import invoice_pb2_grpc as invoices
from tollgate.invoicing.v1 import received_payment_pb2_grpc as received_payments
from tollgate.invoicing.v1 import subscription_pb2_grpc as subscriptions
from tollgate.metering.v1 import archive_pb2_grpc as archives
from tollgate.metering.v1 import backfill_pb2_grpc as backfills
from tollgate.metering.v1 import correction_pb2, event_pb2, gate_pb2, usage_pb2
from tollgate.metering.v1 import correction_pb2_grpc as corrections
from tollgate.metering.v1 import event_pb2_grpc as events
from tollgate.metering.v1 import gate_pb2_grpc as gates
from tollgate.metering.v1 import meter_pb2_grpc as meters
from tollgate.metering.v1 import parking_pb2_grpc as parkings
from tollgate.metering.v1 import usage_pb2_grpc as usages
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import ledger_service_pb2_grpc as ledgers
from tollgate.wallet.v1 import wallet_service_pb2_grpc as wallets
from tollgate_sdk.correcting import amendments, correct, deprecations
from tollgate_sdk.errors import TollgateError, read_error
from tollgate_sdk.gate import GATE_SECONDS, Authorized, UsageRequest, WhenAway
from tollgate_sdk.outstanding import Outstanding
from tollgate_sdk.producer import Limits, OnOutcome, Producer, WhenFull
from tollgate_sdk.streaming import EventStream

MESSAGE_BYTES_MAX = 4 * 1024 * 1024  # the services' own limit for a batch of events
CALL_SECONDS = 20.0
EXPORT_SECONDS = 3_600.0
RETRY_SECONDS = 60.0  # longer than a service takes to come back after a crash


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where each service answers, as host:port."""

    metering: str
    wallet: str
    invoicing: str
    gateway: str
    identity: str

    @classmethod
    def at(cls, address: str) -> Endpoints:
        """All services behind one address, such as an ingress."""
        return cls(address, address, address, address, address)


class Tollgate:
    """A connection to all services of one installation under one credential.

    The credential decides the tenant. Use it as an async context manager, or call `close`. With
    `tls` (grpc.ssl_channel_credentials()) the channels are encrypted; without it they are not.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        credential: str,
        *,
        retry_seconds: float = RETRY_SECONDS,
        tls: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {credential}"),)
        self._retry_seconds = retry_seconds
        options = [
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_receive_message_length", 4 * MESSAGE_BYTES_MAX),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
        ]
        self._channels = {
            name: _channel(getattr(endpoints, name), tls, options)
            for name in Endpoints.__dataclass_fields__
        }
        self._producers: list[Producer] = []
        self._outstanding = Outstanding()
        metering, wallet = self._channels["metering"], self._channels["wallet"]
        invoicing, gateway = self._channels["invoicing"], self._channels["gateway"]
        identity = self._channels["identity"]
        self.meters = meters.MeterServiceStub(metering)
        self.events = events.EventServiceStub(metering)
        self.corrections = corrections.CorrectionServiceStub(metering)
        self.backfills = backfills.BackfillServiceStub(metering)
        self.parking = parkings.ParkingServiceStub(metering)
        self.archive = archives.ArchiveServiceStub(metering)
        self.gate = gates.GateServiceStub(metering)
        self.usage = usages.UsageServiceStub(metering)
        self.assets = wallets.AssetServiceStub(wallet)
        self.wallets = wallets.WalletServiceStub(wallet)
        self.recharges = wallets.RechargeServiceStub(wallet)
        self.grants = ledgers.GrantServiceStub(wallet)
        self.debits = ledgers.DebitServiceStub(wallet)
        self.holds = ledgers.HoldServiceStub(wallet)
        self.ledger = ledgers.LedgerServiceStub(wallet)
        self.customers = customers.CustomerServiceStub(invoicing)
        self.catalog = catalogs.CatalogServiceStub(invoicing)
        self.subscriptions = subscriptions.SubscriptionServiceStub(invoicing)
        self.invoices = invoices.InvoiceServiceStub(invoicing)
        self.received_payments = received_payments.ReceivedPaymentServiceStub(invoicing)
        self.credit_notes = credit_notes.CreditNoteServiceStub(invoicing)
        self.coupons = coupons.CouponServiceStub(invoicing)
        self.entitlements = entitlements.EntitlementServiceStub(invoicing)
        self.taxes = invoices.TaxServiceStub(invoicing)
        self.sellers = invoices.SellerServiceStub(invoicing)
        self.provider_accounts = payments.ProviderAccountServiceStub(gateway)
        self.payment_methods = payments.PaymentMethodServiceStub(gateway)
        self.payments = payments.PaymentServiceStub(gateway)
        self.tenants = identities.TenantServiceStub(identity)
        self.keys = identities.KeyServiceStub(identity)
        self.test_clocks = identities.TestClockServiceStub(identity)

    async def __aenter__(self) -> Tollgate:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drain and close the producers, then all channels; calls in flight end with an error."""
        async with AsyncExitStack() as stack:
            # In reverse: a producer that could not deliver all does not keep the rest open.
            stack.push_async_callback(self._close_channels)
            for producer in self._producers:
                stack.push_async_callback(producer.close)

    async def _close_channels(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    def follow_clock(self, version: int) -> None:
        """Make every later call see at least this version of the tenant's test clock."""
        kept = tuple(pair for pair in self._metadata if pair[0] != "tollgate-clock-version")
        self._metadata = (*kept, ("tollgate-clock-version", str(version)))

    def producer(
        self,
        *,
        folder: Path | str | None = None,
        durable: bool = True,
        limits: Limits | None = None,
        when_full: WhenFull = WhenFull.WAIT,
        on_outcome: OnOutcome | None = None,
    ) -> Producer:
        """A producer of usage events, to be opened with `async with`; see Producer.

        With a `folder`, unsent events survive a crash there. One producer has a folder at a time.
        """
        made = Producer(
            self,
            folder=folder,
            durable=durable,
            limits=limits,
            when_full=when_full,
            on_outcome=on_outcome,
        )
        self._producers.append(made)
        return made

    def authorized(
        self,
        *,
        customer_id: str,
        estimate: gate_pb2.UsageEstimate | None = None,
        maximum: amount_pb2.Amount | None = None,
        name: str = "",
        subject: str = "",
        feature: str = "",
        time_to_live: timedelta | None = None,
        over_use: gate_pb2.OverUse.ValueType = gate_pb2.OVER_USE_UNSPECIFIED,
        node: str = "",
        partial_allowed: bool = False,
        quantity_property: str = "",
        when_away: WhenAway = WhenAway.DENY,
        report_when_raised: bool = False,
        producer: Producer | None = None,
        gate_seconds: float = GATE_SECONDS,
    ) -> Authorized:
        """Usage behind the gate: `async with tollgate.authorized(…) as usage:`; see Authorized.

        Exactly one of `estimate` and `maximum`; with `maximum`, `name` is the reported event's.
        """
        request = UsageRequest(
            customer_id,
            estimate,
            maximum,
            name,
            subject,
            feature,
            time_to_live,
            over_use,
            node,
            partial_allowed,
            quantity_property,
        )
        return Authorized(
            self,
            request,
            when_away=when_away,
            report_when_raised=report_when_raised,
            producer=producer,
            gate_seconds=gate_seconds,
            outstanding=self._outstanding,
        )

    async def call(
        self,
        method: Any,
        request: Any,
        *,
        seconds: float = CALL_SECONDS,
        retry: bool = True,
        retry_seconds: float | None = None,
    ) -> Any:
        """Call one RPC and answer its response. `seconds` bounds each attempt.

        Raises TollgateError. A retryable failure is sent again, with the same request and so the
        same key, until `retry_seconds` (the client's, where not given) are over; `retry=False`
        leaves that to the caller.
        """
        if not retry:
            return await self._once(method, request, seconds)
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_retryable),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            stop=tenacity.stop_after_delay(
                self._retry_seconds if retry_seconds is None else retry_seconds
            ),
            reraise=True,
        )
        return await attempts(self._once, method, request, seconds)

    def event_stream(self) -> EventStream:
        """Events over one open call, to be opened with `async with`; see EventStream."""
        # Without an iterator of requests the call is written to; the stubs know only the former.
        method: Any = self.events.StreamEvents
        return EventStream(method(metadata=self._metadata))

    async def ingest_cloud_events(self, document: str | bytes) -> list[event_pb2.EventOutcome]:
        """Send CloudEvents 1.0 in the JSON format, one as an object or up to 1000 as an array."""
        content = document.encode() if isinstance(document, str) else document
        request = event_pb2.IngestCloudEventsRequest(json=content)
        answer = await self.call(self.events.IngestCloudEvents, request)
        return list(answer.outcomes)

    async def amend_events(
        self, events: Sequence[event_pb2.Event], reason: str
    ) -> list[correction_pb2.CorrectionOutcome]:
        """Put other content in the place of events, by their ids; what they cost more or less is
        charged or returned. Outcomes in order, settled."""
        return await correct(
            self,
            self.corrections.AmendEvents,
            correction_pb2.AmendEventsRequest,
            amendments(events, reason),
        )

    async def deprecate_events(
        self, event_ids: Sequence[str], reason: str
    ) -> list[correction_pb2.CorrectionOutcome]:
        """Declare events never to have happened; what they cost is returned. Outcomes in order,
        settled."""
        return await correct(
            self,
            self.corrections.DeprecateEvents,
            correction_pb2.DeprecateEventsRequest,
            deprecations(event_ids, reason),
        )

    async def explain_charge(
        self, *, event_id: str = "", charge_id: str = ""
    ) -> event_pb2.ExplainChargeResponse:
        """Why an event cost what it cost: meters, tiers, debits and grants, or invoice lines."""
        request = event_pb2.ExplainChargeRequest(event_id=event_id, charge_id=charge_id)
        answer = await self.call(self.events.ExplainCharge, request)
        assert isinstance(answer, event_pb2.ExplainChargeResponse)
        return answer

    async def export_usage(
        self, request: usage_pb2.ExportUsageRequest, *, seconds: float = EXPORT_SECONDS
    ) -> AsyncIterator[usage_pb2.ExportUsageResponse]:
        """The parts of a file of usage, in order. Raises TollgateError; begin anew then."""
        try:
            async for part in self.usage.ExportUsage(
                request, metadata=self._metadata, timeout=seconds
            ):
                yield part
        except grpc.aio.AioRpcError as error:
            raise read_error(error) from None

    async def _once(self, method: Any, request: Any, seconds: float) -> Any:
        try:
            return await method(request, metadata=self._metadata, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise read_error(error) from None


def _channel(
    address: str, tls: grpc.ChannelCredentials | None, options: list[tuple[str, int]]
) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, tls, options=options)


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, TollgateError) and error.retryable
