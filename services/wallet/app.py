"""The wallet, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.platform import Platform
from chassis.relay import Relay
from chassis.server import bind
from chassis.service import App, Job, ServiceDefinition
from tollgate.wallet.v1 import (
    adjustment_service_pb2,
    budget_service_pb2,
    exchange_service_pb2,
    ledger_service_pb2,
    wallet_service_pb2,
)
from wallet.adjustments.rpc import AdjustmentService
from wallet.alerts.jobs import SpendWatch
from wallet.assets.operations import Scales
from wallet.assets.rpc import AssetService
from wallet.budgets.rpc import BudgetService
from wallet.config import Config
from wallet.debits.rpc import DebitService
from wallet.exchange.rpc import ExchangeService
from wallet.grants.rpc import GrantService
from wallet.holds.rpc import HoldService
from wallet.journal.rpc import LedgerService
from wallet.ledger.jobs import Sweeper, archive_journal, extend_journal
from wallet.ledger.operations import open_ledger
from wallet.recharge.rpc import AlertService, RechargeService
from wallet.wallets.jobs import open_watcher
from wallet.wallets.rpc import WalletService


@asynccontextmanager
async def open_app(platform: Platform) -> AsyncIterator[App]:
    """Open the ledger's lanes and bind every service; lanes are flushed before the end."""
    database = platform.database
    settings = platform.settings
    keep_days = settings.journal_retention_days if isinstance(settings, Config) else 0
    scales = Scales(database)
    wallets = wallet_service_pb2.DESCRIPTOR.services_by_name
    ledgers = ledger_service_pb2.DESCRIPTOR.services_by_name
    budgets = budget_service_pb2.DESCRIPTOR.services_by_name
    adjustments = adjustment_service_pb2.DESCRIPTOR.services_by_name
    exchanges = exchange_service_pb2.DESCRIPTOR.services_by_name
    async with (
        open_ledger(database, platform.settings.lanes) as ledger,
        open_watcher(database) as watcher,
    ):
        sweeper = Sweeper(database, ledger, platform.clocks)
        spend_watch = SpendWatch(database, platform.clocks)
        relay = Relay(database, platform.redis, "wallet")
        yield App(
            bindings=[
                bind(AssetService(database), wallets["AssetService"]),
                bind(WalletService(database, scales, watcher), wallets["WalletService"]),
                bind(GrantService(ledger, scales, database), ledgers["GrantService"]),
                bind(DebitService(ledger, scales), ledgers["DebitService"]),
                bind(HoldService(ledger, scales, database), ledgers["HoldService"]),
                bind(
                    AdjustmentService(ledger, scales, database),
                    adjustments["AdjustmentService"],
                ),
                bind(ExchangeService(ledger, scales, database), exchanges["ExchangeService"]),
                bind(LedgerService(database), ledgers["LedgerService"]),
                bind(RechargeService(database, scales), wallets["RechargeService"]),
                bind(AlertService(database, scales), wallets["AlertService"]),
                bind(BudgetService(database, scales), budgets["BudgetService"]),
            ],
            jobs=[
                Job("relay", relay.run),
                Job("sweeper", sweeper.run),
                Job("alerts", spend_watch.run),
                Job("journal", lambda: extend_journal(database)),
                Job("archive", lambda: archive_journal(database, keep_days)),
            ],
        )


SERVICE = ServiceDefinition(
    name="wallet", config=Config, open=open_app, migrations="wallet.migrations"
)
