"""Recharges on the wire: rules, recharges, and the messages that leave with a debit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from chassis.messages import Outgoing
from chassis.wire import parse_asset_code, parse_member, parse_text, render_time
from kernel.errors import InvalidValue, NotFound
from kernel.money import format_atoms, format_decimal, parse_decimal
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import messages_pb2
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.ledger.domain.books import Balance, RechargeStart
from wallet.ledger.wire import parse_id, parse_value
from wallet.recharge.domain import RechargeMode, RechargeState
from wallet.recharge.store import Recharge, StoredAlert, StoredRule

MODES = {int(mode): mode for mode in RechargeMode}
ENDS = {int(state): state for state in (RechargeState.GRANTED, RechargeState.FAILED)}

RECHARGE_DUE = "wallet.recharge_due"
BALANCE_LOW = "wallet.balance_low"


def parse_rule(rule: pb.RechargeRule, scales: Mapping[str, int]) -> StoredRule:
    """A rule to set. Raises InvalidValue naming the field, NotFound for an unknown asset."""
    asset = parse_asset_code(rule.threshold.asset, "rule.threshold.asset")
    scale = scale_of(scales, asset)
    price_asset = rule.price_asset or asset
    threshold = parse_value(rule.threshold.value, scale, "rule.threshold.value", zero_allowed=True)
    mode = parse_member(rule.mode, MODES, "rule.mode")
    value = parse_value(rule.value, scale, "rule.value")
    if mode is RechargeMode.TO_TARGET and value <= threshold:
        raise InvalidValue("rule.value", "a target is above the threshold")
    price = parse_decimal(rule.unit_price, "rule.unit_price") if rule.unit_price else Decimal(1)
    if not rule.unit_price and price_asset != asset:
        raise InvalidValue("rule.unit_price", "is required where the price is in another asset")
    if price <= 0:
        raise InvalidValue("rule.unit_price", "must be greater than zero")
    return StoredRule(
        wallet_id=parse_id(rule.wallet_id, "rule.wallet_id"),
        asset=asset,
        scale=scale,
        threshold=threshold,
        mode=mode,
        value=value,
        unit_price=price,
        price_asset=price_asset,
        price_scale=scale_of(scales, price_asset),
        monthly_cap=parse_value(rule.monthly_cap, scale, "rule.monthly_cap"),
        payment_method_id=parse_text(rule.payment_method_id, "rule.payment_method_id", minimum=0),
        enabled=rule.enabled,
    )


def parse_alert(request: pb.SetBalanceAlertRequest, scales: Mapping[str, int]) -> StoredAlert:
    """A threshold to set. Raises InvalidValue naming the field, NotFound for an unknown asset."""
    asset = parse_asset_code(request.threshold.asset, "threshold.asset")
    scale = scale_of(scales, asset)
    threshold = 0
    if not request.remove:
        threshold = parse_value(request.threshold.value, scale, "threshold.value", True)
    return StoredAlert(parse_id(request.wallet_id, "wallet_id"), asset, scale, threshold, True)


def scale_of(scales: Mapping[str, int], asset: str) -> int:
    """An asset's scale; raises NotFound where there is no such asset."""
    if asset not in scales:
        raise NotFound("asset", asset)
    return scales[asset]


def render_rule(rule: StoredRule) -> pb.RechargeRule:
    scale = rule.scale
    return pb.RechargeRule(
        wallet_id=rule.wallet_id,
        threshold=amount_pb2.Amount(asset=rule.asset, value=format_atoms(rule.threshold, scale)),
        mode=pb.RechargeMode.ValueType(int(rule.mode)),
        value=format_atoms(rule.value, scale),
        unit_price=format_decimal(rule.unit_price),
        price_asset=rule.price_asset,
        monthly_cap=format_atoms(rule.monthly_cap, scale),
        payment_method_id=rule.payment_method_id,
        enabled=rule.enabled,
    )


def render_recharge(recharge: Recharge) -> pb.Recharge:
    return pb.Recharge(
        recharge_id=recharge.recharge_id,
        wallet_id=recharge.wallet_id,
        customer_id=recharge.customer_id,
        amount=amount_pb2.Amount(
            asset=recharge.asset, value=format_atoms(recharge.atoms, recharge.scale)
        ),
        state=pb.RechargeState.ValueType(int(recharge.state)),
        create_time=render_time(recharge.create_time),
        end_time=render_time(recharge.end_time) if recharge.end_time else None,
    )


def render_alert(alert: StoredAlert) -> pb.BalanceAlert:
    return pb.BalanceAlert(
        wallet_id=alert.wallet_id,
        threshold=amount_pb2.Amount(
            asset=alert.asset, value=format_atoms(alert.threshold, alert.scale)
        ),
        armed=alert.armed,
    )


def render_signals(
    starts: Sequence[RechargeStart], alerts: Sequence[tuple[Balance, int]]
) -> list[Outgoing]:
    """The messages that leave in the transaction of the change that caused them."""
    return [_render_due(start) for start in starts] + [
        _render_low(balance, available) for balance, available in alerts
    ]


def _render_due(start: RechargeStart) -> Outgoing:
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


def _render_low(balance: Balance, available: int) -> Outgoing:
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
