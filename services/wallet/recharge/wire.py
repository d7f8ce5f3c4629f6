"""Recharges on the wire: rules, recharges, and the messages that leave with a debit."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chassis.messages import Outgoing
from chassis.wire import render_time
from kernel.money import format_atoms
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import messages_pb2
from wallet.ledger.domain.books import Balance, RechargeStart

RECHARGE_DUE = "wallet.recharge_due"
BALANCE_LOW = "wallet.balance_low"


def render_signals(
    starts: Sequence[RechargeStart], alerts: Sequence[tuple[Balance, int]]
) -> list[Outgoing]:
    """The messages that leave in the transaction of the change that caused them."""
    return [_render_start(start) for start in starts] + [
        _render_alert(balance, available) for balance, available in alerts
    ]


def _render_start(start: RechargeStart) -> Outgoing:
    balance, rule = start.balance, start.balance.rule
    if rule is None:
        raise TypeError("a recharge starts by its rule")
    price = format_atoms(rule.price_of(start.atoms), rule.price_scale)
    message = messages_pb2.RechargeDue(
        recharge_id=start.recharge_id,
        wallet_id=balance.wallet_id,
        customer_id=balance.wallet.customer_id,
        amount=amount_pb2.Amount(asset=balance.asset, value=format_atoms(start.atoms, rule.scale)),
        price=amount_pb2.Amount(asset=rule.price_asset, value=price),
        payment_method_id=rule.payment_method_id,
        create_time=render_time(start.time),
    )
    return Outgoing(UUID(balance.wallet.tenant_id), RECHARGE_DUE, message)


def _render_alert(balance: Balance, available: int) -> Outgoing:
    alert = balance.alert
    if alert is None:
        raise TypeError("an alert has a threshold")
    message = messages_pb2.BalanceLow(
        wallet_id=balance.wallet_id,
        customer_id=balance.wallet.customer_id,
        available=amount_pb2.Amount(
            asset=balance.asset, value=format_atoms(available, alert.scale)
        ),
        threshold=amount_pb2.Amount(
            asset=balance.asset, value=format_atoms(alert.threshold, alert.scale)
        ),
    )
    return Outgoing(UUID(balance.wallet.tenant_id), BALANCE_LOW, message)
