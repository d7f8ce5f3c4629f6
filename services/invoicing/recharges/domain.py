"""Top-ups: value for a wallet, bought by a recharge, and where its purchase stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from kernel.money import Amount


class TopUpState(Enum):
    """Where a top-up stands: its payment, then what is told to the wallet."""

    COLLECTING = "COLLECTING"
    GRANTING = "GRANTING"
    FAILING = "FAILING"
    GRANTED = "GRANTED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class TopUp:
    """Value for a wallet, bought by a recharge. `value` and `cost_basis` are decimal strings,
    the latter the price of one unit in `cost_asset`."""

    recharge_id: UUID
    invoice_id: UUID
    wallet_id: UUID
    asset: str
    value: str
    cost_basis: str
    cost_asset: str
    state: TopUpState = TopUpState.COLLECTING
    disable_rule: bool = False
    cause: str = ""


# What is not in the table cannot happen: a payment is decided once, and then the wallet is told.
CHANGES: Mapping[TopUpState, frozenset[TopUpState]] = {
    TopUpState.COLLECTING: frozenset({TopUpState.GRANTING, TopUpState.FAILING}),
    TopUpState.GRANTING: frozenset({TopUpState.GRANTED, TopUpState.FAILING}),
    TopUpState.FAILING: frozenset({TopUpState.FAILED}),
    TopUpState.GRANTED: frozenset(),
    TopUpState.FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Recharge:
    """A recharge that is due: what to grant, and what to charge for it before tax."""

    recharge_id: UUID
    wallet_id: UUID
    customer_id: str
    asset: str
    value: str
    # None where the price is in no currency, which nobody could be charged.
    price: Amount | None
    exact_price: str
    cost_basis: str
    payment_method_id: str
