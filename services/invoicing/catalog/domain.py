"""Plans: versions of a set of prices. A published version is frozen for ever (CAT-1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any
from uuid import UUID

from invoicing.entitlements.domain.resolve import Entitlement
from invoicing.entitlements.domain.value import PlanEntitlement
from kernel.currency import is_currency
from kernel.errors import InvalidValue, Kind, Refusal
from kernel.period import Every
from rating import Price, parse_price
from rating.price import Flat, LevelModel, Seat


class PriceKind(Enum):
    """What a price prices."""

    FIXED = "FIXED"
    SEAT = "SEAT"
    USAGE = "USAGE"


class Settlement(Enum):
    """Who settles usage: the invoice, or the customer's wallets as events arrive."""

    INVOICE = "INVOICE"
    WALLET = "WALLET"


class Timing(Enum):
    """When a charge falls due: at the start of its period, or at the end."""

    ADVANCE = "ADVANCE"
    ARREARS = "ARREARS"


class VersionState(Enum):
    """States of a plan version."""

    DRAFT = "DRAFT"
    PUBLISHED = "PUBLISHED"
    ARCHIVED = "ARCHIVED"


class PlanKind(Enum):
    """What a code stands for."""

    PLAN = "PLAN"
    ADD_ON = "ADD_ON"


class TrialEnd(Enum):
    """What comes after a trial (SUB-5)."""

    CONVERT = "CONVERT"
    CANCEL = "CANCEL"
    PAUSE = "PAUSE"


@dataclass(frozen=True, slots=True)
class Trial:
    """A time without fees at the start of a subscription."""

    length: Every
    requires_payment_method: bool = False
    end: TrialEnd = TrialEnd.CONVERT
    is_usage_charged: bool = False
    keeps_anchor: bool = False  # periods are counted from the start, not from the trial's end
    is_once: bool = True  # per customer and plan


class PlanNotDraft(Refusal):
    """A published version never changes."""

    reason = "PLAN_NOT_DRAFT"
    kind = Kind.PRECONDITION

    def __init__(self, code: str, version: int, state: VersionState) -> None:
        super().__init__(
            f"plan {code!r} version {version} is {state.value} and never changes",
            code=code,
            version=version,
            state=state.value,
        )


class PlanNotPublished(Refusal):
    """Only a published version takes subscriptions."""

    reason = "PLAN_NOT_PUBLISHED"
    kind = Kind.PRECONDITION

    def __init__(self, code: str, version: int, state: VersionState | None) -> None:
        told = "nothing of it is published" if state is None else f"it is {state.value}"
        super().__init__(
            f"plan {code!r} takes no subscriptions: {told}",
            code=code,
            version=version,
            state="" if state is None else state.value,
        )


@dataclass(frozen=True)
class PlanPrice:
    """One price of a plan version. `document` is the pricing as `rating` reads it."""

    price_id: UUID
    code: str
    description: str
    kind: PriceKind
    meter: str
    dimensions: Mapping[str, str]
    document: Mapping[str, Any]
    settlement: Settlement
    timing: Timing
    tax_category: str
    every: Every | None = None  # where it differs from the plan's
    currency_pricings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def pricing(self) -> Price:
        return parse_price(self.document)

    @property
    def asset(self) -> str:
        return self.pricing.asset

    def document_in(self, currency: str) -> Mapping[str, Any] | None:
        """The pricing in a currency; None where there is none. A native unit is none's."""
        if not is_currency(self.asset) or self.asset == currency:
            return self.document
        return self.currency_pricings.get(currency)

    def priced(self, document: Mapping[str, Any] | None) -> PlanPrice:
        """The same price by another document."""
        return self if document is None else replace(self, document=document)


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """One version of a plan."""

    code: str
    version: int
    name: str
    state: VersionState
    prices: tuple[PlanPrice, ...]
    every: Every
    features: tuple[str, ...]
    create_time: datetime
    publish_time: datetime | None = None
    entitlements: tuple[PlanEntitlement, ...] = ()
    kind: PlanKind = PlanKind.PLAN
    quantity_max: Decimal | None = None
    compatible_plans: tuple[str, ...] = ()
    trial: Trial | None = None


def free_of_charge(price: PlanPrice) -> PlanPrice:
    """The price for usage that is counted and costs nothing."""
    document = {"asset": price.asset, "unit": {"unit_price": "0"}}
    return replace(price, document=document, settlement=Settlement.INVOICE)


def archive(plan: PlanVersion) -> PlanVersion:
    """The version off the shelf. Raises PlanNotPublished where it never was on it."""
    if plan.state is VersionState.DRAFT:
        raise PlanNotPublished(plan.code, plan.version, plan.state)
    return replace(plan, state=VersionState.ARCHIVED)


def check_prices(price: PlanPrice, field: str) -> None:
    """The rules between a price's fields, in each of its currencies; raises InvalidValue."""
    check_price(price, field)
    for index, (currency, document) in enumerate(price.currency_pricings.items()):
        here = f"{field}.currency_pricings[{index}]"
        if not is_currency(currency):
            raise InvalidValue(f"{here}.asset", f"{currency} is no currency")
        if not is_currency(price.asset):
            raise InvalidValue(here, f"a price in {price.asset} is the same in every currency")
        check_price(price.priced(document), here)


def check_price(price: PlanPrice, field: str) -> None:
    """The rules between a price's fields; raises InvalidValue naming the field and why."""
    pricing = parse_price(price.document, f"{field}.pricing")
    match price.kind:
        case PriceKind.FIXED:
            if not isinstance(pricing.model, Flat):
                raise InvalidValue(f"{field}.pricing.model", "a FIXED price is a flat amount")
        case PriceKind.SEAT:
            if not isinstance(pricing.model, Seat | LevelModel):
                raise InvalidValue(f"{field}.pricing.model", "seats are priced by a level")
        case PriceKind.USAGE:
            if isinstance(pricing.model, Seat):
                raise InvalidValue(f"{field}.pricing.model", "the seat model is for SEAT prices")
    if price.kind is not PriceKind.USAGE and not is_currency(pricing.asset):
        raise InvalidValue(f"{field}.pricing.asset", f"a fee is money, and {pricing.asset} is not")
    if pricing.minimum is not None and not is_currency(pricing.asset):
        raise InvalidValue(
            f"{field}.pricing.minimum", f"invoices collect it, and {pricing.asset} is no currency"
        )
    if price.settlement is Settlement.INVOICE and not is_currency(pricing.asset):
        raise InvalidValue(
            f"{field}.settlement", f"{pricing.asset} is no currency, so wallets must settle it"
        )


def publish(plan: PlanVersion, meters: Collection[str], now: datetime) -> PlanVersion:
    """The version, frozen. Raises PlanNotDraft, or InvalidValue naming the price at fault."""
    if plan.state is not VersionState.DRAFT:
        raise PlanNotDraft(plan.code, plan.version, plan.state)
    for price in plan.prices:
        field = f"prices[{price.code}]"
        check_prices(price, field)
        if price.kind is PriceKind.USAGE and price.meter not in meters:
            raise InvalidValue(f"{field}.meter", f"there is no meter {price.meter!r}")
    return replace(plan, state=VersionState.PUBLISHED, publish_time=now)


@dataclass(frozen=True, slots=True)
class CardEntry:
    """One usage price in force for a customer, with the grid its periods are cut on."""

    price: PlanPrice
    subscription_item_id: UUID
    plan_code: str
    anchor_time: datetime
    every: Every
    time_zone: str
    start_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class RateCard:
    """All usage prices in force for one customer."""

    customer_id: str
    known: bool
    version: int = 0
    suspended: bool = False
    time_zone: str = ""
    entries: tuple[CardEntry, ...] = ()
    entitlements: tuple[Entitlement, ...] = ()
    valid_until: datetime | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Codes of what the customer may use."""
        return tuple(one.feature.code for one in self.entitlements if one.enabled)


def order_entries(entries: Collection[CardEntry]) -> tuple[CardEntry, ...]:
    """The order in which prices apply: more exact ones first, then the older subscription's.

    A price for one model must win over a price for all models of the same meter.
    """
    return tuple(sorted(entries, key=lambda entry: -len(entry.price.dimensions)))
