"""Wallets and balances on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from chassis.wire import (
    parse_amount,
    parse_member,
    parse_text,
    render_amount,
    render_time,
)
from kernel.errors import InvalidValue, NotFound
from kernel.money import Amount, format_atoms
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import wallet_pb2
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.ledger.domain.values import (
    PRIORITY_DEFAULT,
    OverCapture,
    Restrictions,
    ShortfallMode,
    WalletState,
)
from wallet.wallets.domain import CODES_MAX, BalanceView, Wallet

PRIORITY_MAX = 100
CUSTOMER_ID_MAX = 128
OVER_CAPTURES = {
    int(mode): OverCapture.REJECT if mode is OverCapture.UNSTATED else mode for mode in OverCapture
}
STATES = {int(state): state for state in WalletState}
MODES = {0: ShortfallMode.BLOCK, **{int(mode): mode for mode in ShortfallMode}}


def parse_wallet(
    request: pb.CreateWalletRequest, scales: Mapping[str, int], wallet_id: str, now: datetime
) -> Wallet:
    """A wallet to open. Raises InvalidValue naming the field, NotFound for an unknown asset."""
    mode = parse_member(request.shortfall_policy.mode, MODES, "shortfall_policy.mode")
    return Wallet(
        wallet_id=wallet_id,
        customer_id=parse_text(request.customer_id, "customer_id", maximum=CUSTOMER_ID_MAX),
        name=parse_text(request.name, "name", minimum=0),
        priority=parse_priority(request.priority if request.HasField("priority") else None),
        restrictions=parse_restrictions(request.restrictions),
        shortfall_mode=mode,
        late_capture_allowed=request.late_capture_allowed,
        state=WalletState.ACTIVE,
        create_time=now,
        overdraft_limits=_parse_limits(request.shortfall_policy.overdraft_limits, mode, scales),
        over_capture=parse_member(request.over_capture, OVER_CAPTURES, "over_capture"),
    )


def parse_change(
    request: pb.UpdateWalletRequest, scales: Mapping[str, int]
) -> Callable[[Wallet], Wallet]:
    """What is to be changed, to be made of the wallet as it is. Raises as parse_wallet does."""
    changes: dict[str, Any] = {}
    if request.HasField("name"):
        changes["name"] = parse_text(request.name, "name", minimum=0)
    if request.HasField("priority"):
        changes["priority"] = parse_priority(request.priority)
    if request.HasField("restrictions"):
        changes["restrictions"] = parse_restrictions(request.restrictions)
    if request.HasField("shortfall_policy"):
        policy = request.shortfall_policy
        mode = parse_member(policy.mode, MODES, "shortfall_policy.mode")
        changes["shortfall_mode"] = mode
        changes["overdraft_limits"] = _parse_limits(policy.overdraft_limits, mode, scales)
    if request.HasField("late_capture_allowed"):
        changes["late_capture_allowed"] = request.late_capture_allowed
    if request.over_capture:
        changes["over_capture"] = parse_member(request.over_capture, OVER_CAPTURES, "over_capture")
    if not changes:
        raise InvalidValue("request", "changes nothing")
    return lambda wallet: replace(wallet, **changes)


def parse_priority(value: int | None) -> int:
    """0 to 100, lower first; 50 where it is absent."""
    if value is None:
        return PRIORITY_DEFAULT
    if not 0 <= value <= PRIORITY_MAX:
        raise InvalidValue("priority", f"{value} is not between 0 and {PRIORITY_MAX}")
    return value


def parse_restrictions(message: wallet_pb2.Restrictions) -> Restrictions | None:
    """What something may pay for; None where nothing is restricted."""
    lists = []
    for field, codes in (
        ("meters", message.meters),
        ("features", message.features),
        ("products", message.products),
    ):
        if len(codes) > CODES_MAX:
            raise InvalidValue(f"restrictions.{field}", f"takes at most {CODES_MAX} codes")
        lists.append(
            tuple(
                parse_text(code, f"restrictions.{field}", maximum=CUSTOMER_ID_MAX) for code in codes
            )
        )
    meters, features, products = lists
    return (meters, features, products) if meters or features or products else None


def _parse_limits(
    messages: Sequence[amount_pb2.Amount], mode: ShortfallMode, scales: Mapping[str, int]
) -> tuple[Amount, ...]:
    field = "shortfall_policy.overdraft_limits"
    if messages and mode is not ShortfallMode.OVERDRAFT:
        raise InvalidValue(field, "goes with OVERDRAFT")
    limits = []
    for message in messages:
        if message.asset not in scales:
            raise NotFound("asset", message.asset)
        limits.append(parse_amount(message, scales.__getitem__, field))
    if len({limit.asset.code for limit in limits}) < len(limits):
        raise InvalidValue(field, "names an asset twice")
    return tuple(limits)


def render_wallet(wallet: Wallet) -> wallet_pb2.Wallet:
    return wallet_pb2.Wallet(
        wallet_id=wallet.wallet_id,
        customer_id=wallet.customer_id,
        name=wallet.name,
        priority=wallet.priority,
        restrictions=render_restrictions(wallet.restrictions),
        shortfall_policy=wallet_pb2.ShortfallPolicy(
            mode=wallet_pb2.ShortfallMode.ValueType(int(wallet.shortfall_mode)),
            overdraft_limits=[render_amount(limit) for limit in wallet.overdraft_limits],
        ),
        state=wallet_pb2.WalletState.ValueType(int(wallet.state)),
        create_time=render_time(wallet.create_time),
        late_capture_allowed=wallet.late_capture_allowed,
        over_capture=wallet_pb2.OverCapturePolicy.ValueType(int(wallet.over_capture)),
        state_cause=wallet.state_cause,
        state_time=None if wallet.state_time is None else render_time(wallet.state_time),
    )


def render_restrictions(restrictions: Restrictions | None) -> wallet_pb2.Restrictions:
    meters, features, products = restrictions or ((), (), ())
    return wallet_pb2.Restrictions(meters=meters, features=features, products=products)


def render_balance(balance: BalanceView) -> wallet_pb2.Balance:
    scale = balance.scale
    return wallet_pb2.Balance(
        wallet_id=balance.wallet_id,
        customer_id=balance.customer_id,
        asset=balance.asset,
        credited=format_atoms(balance.credited, scale),
        debited=format_atoms(balance.debited, scale),
        held=format_atoms(balance.held, scale),
        available=format_atoms(balance.available, scale),
        sequence=balance.sequence,
        debt=format_atoms(balance.debt, scale),
        dormant=format_atoms(balance.dormant, scale),
    )
