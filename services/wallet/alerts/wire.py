"""Spend alerts on the wire, and the messages that they send."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from chassis.messages import Outgoing
from chassis.wire import parse_asset_code, parse_count, parse_member, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms, format_decimal, parse_decimal, round_to_atoms
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import messages_pb2
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.alerts.domain import WINDOW_HOURS_DEFAULT, SpendAlert, SpendAlertKind
from wallet.alerts.store import Expiring, Funds
from wallet.ledger.wire import parse_id
from wallet.recharge.wire import scale_of

KINDS = {int(kind): kind for kind in SpendAlertKind}
WINDOW_HOURS_MAX = 90 * 24
DAYS_MAX = 3_650
SPEND_ALERT = "wallet.spend_alert"
GRANT_EXPIRING = "wallet.grant_expiring"


def parse_spend_alert(request: pb.SetSpendAlertRequest, scales: Mapping[str, int]) -> SpendAlert:
    """Raises InvalidValue naming the field, NotFound for an unknown asset."""
    asset = parse_asset_code(request.asset, "asset")
    scale = scale_of(scales, asset)
    kind = parse_member(request.kind, KINDS, "kind")
    threshold = Decimal(1)
    if not request.remove:
        threshold = parse_decimal(request.threshold, "threshold")
        if threshold <= 0:
            raise InvalidValue("threshold", "must be greater than zero")
        if kind is SpendAlertKind.BURN_RATE:
            threshold = threshold.scaleb(scale)
        elif threshold > DAYS_MAX:
            raise InvalidValue("threshold", f"takes at most {DAYS_MAX} days")
    hours = parse_count(
        request.window_hours,
        "window_hours",
        minimum=1,
        maximum=WINDOW_HOURS_MAX,
        default=WINDOW_HOURS_DEFAULT,
    )
    wallet_id = parse_id(request.wallet_id, "wallet_id")
    return SpendAlert(wallet_id, asset, scale, kind, threshold, hours, True)


def render_spend_alert(alert: SpendAlert) -> pb.SpendAlert:
    return pb.SpendAlert(
        wallet_id=alert.wallet_id,
        asset=alert.asset,
        kind=pb.SpendAlertKind.ValueType(int(alert.kind)),
        threshold=_threshold(alert),
        window_hours=alert.window_hours,
        armed=alert.armed,
    )


def render_fired(tenant_id: UUID, alert: SpendAlert, funds: Funds, rate: Fraction) -> Outgoing:
    """The message of a threshold that was crossed."""
    scale = alert.scale
    days = Fraction(funds.available) / rate if rate > 0 else None
    message = messages_pb2.SpendAlertFired(
        wallet_id=alert.wallet_id,
        customer_id=funds.customer_id,
        kind="DAYS_LEFT" if alert.kind is SpendAlertKind.DAYS_LEFT else "BURN_RATE",
        available=amount_pb2.Amount(asset=alert.asset, value=format_atoms(funds.available, scale)),
        burn_rate=format_atoms(round_to_atoms(rate, 0), scale),
        days_left="" if days is None else format_atoms(round_to_atoms(days, 2), 2),
        threshold=_threshold(alert),
    )
    return Outgoing(tenant_id, SPEND_ALERT, message)


def render_expiring(
    tenant_id: UUID, alert: SpendAlert, customer_id: str, grant: Expiring
) -> Outgoing:
    """The message of a grant that expires soon."""
    message = messages_pb2.GrantExpiring(
        wallet_id=alert.wallet_id,
        customer_id=customer_id,
        grant_id=grant.grant_id,
        remaining=amount_pb2.Amount(
            asset=alert.asset, value=format_atoms(grant.remaining, alert.scale)
        ),
        expire_time=render_time(grant.expire_time),
    )
    return Outgoing(tenant_id, GRANT_EXPIRING, message)


def _threshold(alert: SpendAlert) -> str:
    threshold = alert.threshold
    if alert.kind is SpendAlertKind.BURN_RATE:
        threshold = threshold.scaleb(-alert.scale)
    return format_decimal(threshold)
