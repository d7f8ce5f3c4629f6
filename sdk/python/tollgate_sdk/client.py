"""The asynchronous client: one channel per service, one credential, retries by key.

Everything that changes something carries a key, so a call whose answer was lost is sent again as it
is: the service answers what it answered first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
import tenacity

from tollgate.gateway.v1 import payment_service_pb2_grpc as payments
from tollgate.identity.v1 import identity_service_pb2_grpc as identities
from tollgate.invoicing.v1 import catalog_pb2_grpc as catalogs
from tollgate.invoicing.v1 import customer_pb2_grpc as customers
from tollgate.invoicing.v1 import invoice_pb2_grpc as invoices
from tollgate.invoicing.v1 import subscription_pb2_grpc as subscriptions
from tollgate.metering.v1 import event_pb2_grpc as events
from tollgate.metering.v1 import gate_pb2_grpc as gates
from tollgate.metering.v1 import meter_pb2_grpc as meters
from tollgate.metering.v1 import usage_pb2_grpc as usages
from tollgate.wallet.v1 import ledger_service_pb2_grpc as ledgers
from tollgate.wallet.v1 import wallet_service_pb2_grpc as wallets
from tollgate_sdk.errors import TollgateError, read_error

MESSAGE_BYTES_MAX = 4 * 1024 * 1024  # the services' own limit for a batch of events
CALL_SECONDS = 20.0
RETRY_SECONDS = 60.0  # longer than a service takes to come back after a crash

Answer = TypeVar("Answer")
Method = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where each service answers, as host:port."""

    metering: str
    wallet: str
    invoicing: str
    gateway: str
    identity: str


class Tollgate:
    """A connection to all services of one installation under one credential.

    The credential decides the tenant. Use it as an async context manager, or call `close`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        credential: str,
        *,
        retry_seconds: float = RETRY_SECONDS,
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
            name: grpc.aio.insecure_channel(getattr(endpoints, name), options=options)
            for name in Endpoints.__dataclass_fields__
        }
        metering, wallet = self._channels["metering"], self._channels["wallet"]
        invoicing, gateway = self._channels["invoicing"], self._channels["gateway"]
        identity = self._channels["identity"]
        self.meters = meters.MeterServiceStub(metering)
        self.events = events.EventServiceStub(metering)
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
        """Close all channels; calls in flight end with an error."""
        for channel in self._channels.values():
            await channel.close(None)

    def follow_clock(self, version: int) -> None:
        """Make every later call see at least this version of the tenant's test clock."""
        kept = tuple(pair for pair in self._metadata if pair[0] != "tollgate-clock-version")
        self._metadata = (*kept, ("tollgate-clock-version", str(version)))

    async def call(
        self, method: Any, request: Any, *, seconds: float = CALL_SECONDS, retry: bool = True
    ) -> Any:
        """Call one RPC and answer its response.

        Raises TollgateError. A retryable failure is sent again, with the same request and so the
        same key, until `retry_seconds` are over; `retry=False` leaves that to the caller.
        """
        if not retry:
            return await self._once(method, request, seconds)
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_retryable),
            wait=tenacity.wait_exponential_jitter(initial=0.05, max=1.0),
            stop=tenacity.stop_after_delay(self._retry_seconds),
            reraise=True,
        )
        return await attempts(self._once, method, request, seconds)

    async def _once(self, method: Any, request: Any, seconds: float) -> Any:
        try:
            return await method(request, metadata=self._metadata, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise read_error(error) from None


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, TollgateError) and error.retryable
