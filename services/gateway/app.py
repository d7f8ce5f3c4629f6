"""Wiring: what the gateway serves, what it works on, and the door for providers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from chassis.platform import Platform
from chassis.program import App, Job, ServiceDefinition
from chassis.relay import Relay
from chassis.server import bind
from gateway.accounts.operations import AccountOperations
from gateway.accounts.rpc import ProviderAccountService
from gateway.attempts.domain import Kind
from gateway.attempts.operations import Recorder, TenantNow
from gateway.collection.jobs import learn, settle
from gateway.collection.operations import Collector
from gateway.config import Config
from gateway.methods.operations import MethodOperations
from gateway.methods.rpc import PaymentMethodService
from gateway.notifications.jobs import apply_kept
from gateway.notifications.operations import NotificationOperations
from gateway.notifications.rpc import NotificationDoor
from gateway.orders.operations import OrderOperations, OrderRecorder
from gateway.payments.operations import PaymentOperations
from gateway.payments.rpc import PaymentService
from gateway.providers import sandbox
from gateway.providers.brought import NOTHING_BROUGHT, Brought, read_brought
from gateway.providers.driver import Driver, Limits
from gateway.providers.lines import Lines
from gateway.providers.registry import PROVIDERS, Registry
from gateway.refunds.operations import RefundOperations, RefundRecorder
from gateway.refunds.rpc import RefundService
from gateway.sessions.operations import SessionOperations
from gateway.sessions.rpc import SessionService
from kernel.clock import Clock, SystemClock
from tollgate.gateway.v1 import session_pb2
from tollgate.gateway.v1.payment_service_pb2 import DESCRIPTOR

SERVICES = DESCRIPTOR.services_by_name
SESSIONS = session_pb2.DESCRIPTOR.services_by_name["SessionService"]
PLAN_SHARE_OF_LEASE = 0.75  # a plan ends before its lease does

__all__ = ["SERVICE", "open_app"]


@dataclass(frozen=True, slots=True)
class GatewayApp(App):
    """The app, with the parts that run without a caller at hand for whoever drives them."""

    collector: Collector | None = None
    notifications: NotificationOperations | None = None
    lines: Lines | None = None


@asynccontextmanager
async def open_app(platform: Platform) -> AsyncIterator[App]:
    """Make the gateway's parts; the driver's connections are closed with it."""
    config = platform.settings
    if not isinstance(config, Config):
        raise TypeError("the gateway is opened with its own Config")
    clock = SystemClock()
    lines = Lines(
        {**config.provider_endpoints, sandbox.NAME: config.sandbox_endpoint},
        Path(config.secrets_folder),
        config.service_secret.reveal(),
        _notifications_url(config),
        Registry(_brought(config)),
    )
    driver = Driver(
        Limits(
            plan_seconds=config.lease_seconds * PLAN_SHARE_OF_LEASE,
            call_seconds_max=config.provider_call_seconds_max,
        ),
        proxy=config.provider_proxy,
        ca_file=config.provider_ca_file,
    )
    tenant_now = _tenant_now(platform, clock)
    recorder = Recorder(platform.database, lines, platform.metrics, clock, tenant_now)
    orders = OrderRecorder(platform.database, recorder, clock, tenant_now)
    refunds = RefundRecorder(platform.database, lines, clock, tenant_now)
    collector = Collector(
        platform.database,
        driver,
        {
            Kind.CHARGE: recorder,
            Kind.CAPTURE: orders,
            Kind.CANCEL: orders,
            Kind.REFUND: refunds,
        },
        platform.metrics,
        clock,
        timedelta(seconds=config.lease_seconds),
    )
    sessions = SessionOperations(platform.database, collector, recorder, lines)
    notifications = NotificationOperations(
        platform.database,
        collector,
        recorder,
        refunds,
        lines,
        platform.metrics,
        clock,
        tenant_now,
        sessions.notice,
    )
    accounts = AccountOperations(platform.database, lines)
    methods = MethodOperations(platform.database, collector, lines)
    payments = PaymentOperations(platform.database, collector, lines)
    relay = Relay(platform.database, platform.redis, platform.service)
    learning = asyncio.create_task(learn(collector, lines), name="learn what providers offer")

    @asynccontextmanager
    async def door() -> AsyncIterator[str]:
        async with NotificationDoor(notifications).open(config.notifications_listen) as address:
            # A port chosen by the system is known only now.
            lines.notifications_url = config.notifications_url or f"http://{address}"
            yield address

    try:
        yield GatewayApp(
            bindings=[
                bind(ProviderAccountService(accounts), SERVICES["ProviderAccountService"]),
                bind(PaymentMethodService(methods), SERVICES["PaymentMethodService"]),
                bind(
                    PaymentService(payments, OrderOperations(platform.database, collector, orders)),
                    SERVICES["PaymentService"],
                ),
                bind(SessionService(sessions), SESSIONS),
                bind(
                    RefundService(RefundOperations(platform.database, collector, refunds)),
                    SERVICES["RefundService"],
                ),
            ],
            jobs=[
                Job("relay", relay.run),
                Job("settle", lambda: settle(collector, config.settle_pause_seconds)),
                Job(
                    "notifications",
                    lambda: apply_kept(notifications, config.notification_pause_seconds),
                ),
            ],
            doors=[door] if config.notifications_listen else [],
            collector=collector,
            notifications=notifications,
            lines=lines,
        )
    finally:
        learning.cancel()
        await asyncio.gather(learning, return_exceptions=True)
        await collector.close()
        await driver.close()


def _brought(config: Config) -> Brought:
    if not config.providers_file:
        return NOTHING_BROUGHT
    return read_brought(Path(config.providers_file), frozenset(PROVIDERS))


def _notifications_url(config: Config) -> str:
    listen = config.notifications_listen
    if config.notifications_url or not listen or listen.endswith(":0"):
        return config.notifications_url
    return f"http://{listen}"


def _tenant_now(platform: Platform, clock: Clock) -> TenantNow:
    async def tenant_now(tenant_id: UUID) -> datetime:
        """A tenant's time for work that no call brought; without identity there are no others."""
        if not platform.peers.knows("identity"):
            return clock.now()
        return (await platform.clocks.now(tenant_id))[0]

    return tenant_now


SERVICE = ServiceDefinition(
    name="gateway", config=Config, open=open_app, migrations="gateway.migrations"
)
