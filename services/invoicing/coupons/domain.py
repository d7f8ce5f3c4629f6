"""Coupons: what is taken off, from what, on how many documents (§8.4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum

from kernel.errors import Kind, Refusal
from kernel.money import Amount


class CouponNotRedeemable(Refusal):
    """Nobody, or not this customer, gets the coupon any more."""

    reason = "COUPON_NOT_REDEEMABLE"
    kind = Kind.PRECONDITION

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"coupon {code!r} is not redeemable: {why}", code=code, why=why)


class Duration(Enum):
    """How long a coupon works for a customer (DIS-2)."""

    ONCE = "ONCE"
    REPEATING = "REPEATING"
    FOREVER = "FOREVER"


class Scope(Enum):
    """What a coupon is taken off; narrow scopes come first (DIS-1)."""

    PRICE = 0
    PLAN = 1
    DOCUMENT = 2


@dataclass(frozen=True, slots=True)
class Coupon:
    """A discount under a code: a share of what is due, or an amount of it."""

    code: str
    name: str
    rate: Decimal | None
    amount: Amount | None
    duration: Duration
    documents: int  # with REPEATING
    plan_codes: tuple[str, ...]
    price_codes: tuple[str, ...]
    redemptions_max: int | None
    redemptions: int
    end_time: datetime | None
    keep_unused: bool
    archived: bool
    create_time: datetime

    @property
    def scope(self) -> Scope:
        if self.price_codes:
            return Scope.PRICE
        return Scope.PLAN if self.plan_codes else Scope.DOCUMENT

    @property
    def is_exhausted(self) -> bool:
        return self.redemptions_max is not None and self.redemptions >= self.redemptions_max

    def covers(self, plan_code: str, price_code: str) -> bool:
        in_plan = not self.plan_codes or plan_code in self.plan_codes
        return in_plan and (not self.price_codes or price_code in self.price_codes)


@dataclass(frozen=True, slots=True)
class HeldCoupon:
    """A coupon that a customer has: on how many documents it is, and what it took off them."""

    coupon: Coupon
    used: int
    given: int
    attach_time: datetime

    @property
    def is_open(self) -> bool:
        """Whether the next document may have it."""
        if self.coupon.is_exhausted:
            return False
        match self.coupon.duration:
            case Duration.ONCE:
                return bool(self.left) if self.coupon.keep_unused else self.used == 0
            case Duration.REPEATING:
                return self.used < self.coupon.documents
            case Duration.FOREVER:
                return True

    @property
    def left(self) -> int:
        """Minor units that a fixed amount has for the next document (DIS-3)."""
        if self.coupon.amount is None:
            return 0
        return self.coupon.amount.atoms - (self.given if self.coupon.keep_unused else 0)

    @property
    def state(self) -> tuple[str, int, int]:
        """What a draft was computed from; how often others redeemed it is no part of it."""
        return self.coupon.code, self.used, self.given


def check_redeemable(coupon: Coupon, currency: str, now: datetime) -> None:
    """Raises CouponNotRedeemable where a customer of a currency does not get it."""
    if coupon.archived:
        raise CouponNotRedeemable(coupon.code, "it is archived")
    if coupon.end_time is not None and coupon.end_time <= now:
        raise CouponNotRedeemable(coupon.code, f"it ended at {coupon.end_time.isoformat()}")
    if coupon.is_exhausted:
        raise CouponNotRedeemable(coupon.code, "it was redeemed as often as it may be")
    if coupon.amount is not None and coupon.amount.asset.code != currency:
        raise CouponNotRedeemable(
            coupon.code, f"it is in {coupon.amount.asset.code}, the customer in {currency}"
        )
