"""Running usage: one price of one subscription item in one billing period, as events come in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from kernel.money import RoundingMode
from metering.ratecards.domain import Pricing, Stretch, window_name
from rating import State, Usage, advance, charge, parse_state, render_state
from rating.exact import Number, atoms_of, number_text
from rating.price import OnDecrease, StubBounds
from rating.tab import Tab


class UsageName(NamedTuple):
    """What a usage is of."""

    price_id: str
    subscription_item_id: str
    meter: str
    plan_code: str
    asset: str
    scale: int
    from_wallet: bool


class Running:
    """The working figures of one batch, made from a stored row and written back to it.

    They change in place, because a new frozen value per event would cost more than the rating.
    `asked` is what wallets were asked for in atoms; the next charge is round(cost) − asked, so
    whatever earlier events were priced at, the sum is right again after it (RND-3). Where the cost
    is below what was asked, nothing is charged, and `left_over` says what the close gives back.
    """

    __slots__ = (
        "_high_water",
        "_of_quantity",
        "_tab",
        "_unit",
        "asked",
        "asset",
        "customer_id",
        "dimensions",
        "event_count",
        "from_wallet",
        "is_maximum",
        "is_new",
        "left_over",
        "meter",
        "number",
        "only_grew",
        "plan_code",
        "price_id",
        "pricing",
        "quantity",
        "scale",
        "shortfall",
        "stretch",
        "subscription_item_id",
        "time_zone",
    )

    def __init__(
        self,
        *,
        number: int,
        customer_id: str,
        subscription_item_id: str,
        price_id: str,
        plan_code: str,
        meter: str,
        is_maximum: bool,
        dimensions: tuple[tuple[str, str], ...],
        pricing: Pricing,
        stretch: Stretch,
        time_zone: str,
        from_wallet: bool,
        scale: int,
        quantity: Number = 0,
        event_count: int = 0,
        rating_state: str | None = None,
        asked: int = 0,
        shortfall: int = 0,
        left_over: int = 0,
        is_new: bool = True,
    ) -> None:
        self.number = number
        self.customer_id = customer_id
        self.subscription_item_id = subscription_item_id
        self.price_id = price_id
        self.plan_code = plan_code
        self.meter = meter
        self.is_maximum = is_maximum
        self.dimensions = dimensions
        self.pricing = pricing
        self.stretch = stretch
        self.time_zone = time_zone
        self.from_wallet = from_wallet
        self.asset = pricing.price.asset
        self.scale = scale
        self.quantity = quantity
        self.event_count = event_count
        self.asked = asked
        self.shortfall = shortfall
        self.left_over = left_over
        self.is_new = is_new
        # Whether a batch changed nothing but what every event changes.
        self.only_grew = not left_over
        self._high_water = pricing.price.on_decrease is OnDecrease.HIGH_WATER
        self._tab: Tab | None = None
        self._of_quantity = pricing.of_quantity
        self._unit = pricing.unit
        if from_wallet and not self.is_plain:
            self.only_grew = False
            begun = parse_state(json.loads(rating_state)) if rating_state else self._empty()
            self._tab = self._tab_of(begun)

    @property
    def is_plain(self) -> bool:
        """Whether the total quantity alone decides the cost in this period."""
        if not self.pricing.is_plain:
            return False
        scaled = self.pricing.price.stub_bounds is StubBounds.PRORATED
        return not scaled or self.stretch.share == 1

    @property
    def is_additive(self) -> bool:
        """Whether one event can be taken back without recounting the others."""
        return not self.is_maximum and (self.is_plain or not self.from_wallet)

    def add(
        self, value: Number, properties: Mapping[str, str], event_time: datetime
    ) -> tuple[Number, int]:
        """Count one event; answers the usage it added and the atoms to charge for it."""
        if self.is_maximum:
            value = value - self.quantity if value > self.quantity else 0
        self.quantity += value
        self.event_count += 1
        if not self.from_wallet:
            return value, 0
        if self._tab is None:
            return value, self._ask(self._cost(self.quantity) - self.asked)
        delta = self._tab.add(self._usage(value, properties, event_time))
        atoms = self._ask(delta)
        self._tab.charged_atoms = self.asked
        return value, atoms

    def margin(
        self,
        value: Number,
        properties: Mapping[str, str],
        event_time: datetime,
        reserved: Number,
        held: int,
    ) -> int:
        """Atoms that one event more would cost, after usage that is reserved and held for."""
        if self.is_maximum:
            reserved = 0
            value = max(value - self.quantity, 0)
        if self.is_plain:
            cost = self._cost(self.quantity + reserved + value)
            return max(cost - self.asked - held, 0)
        usage = self._usage(value, properties, event_time)
        state = advance(self.pricing.price, self.state(), usage)
        return max(charge(self.pricing.price, state, self.asked, self.scale), 0)

    def take_back(self, quantity: Number, atoms: int, shortfall: int) -> None:
        """Undo one event whose charge was refused; only where that needs no recount."""
        self.quantity -= quantity
        self.event_count -= 1
        self.settle(-atoms, -shortfall)

    def restart(self) -> None:
        """Forget what was counted, for a recount; what was asked stays."""
        self.quantity = 0
        self.event_count = 0
        if self._tab is not None:
            self._tab = self._tab_of(self._empty())

    def recount(self, value: Number, properties: Mapping[str, str], event_time: datetime) -> Number:
        """Count one event again without charging it; answers the usage it added."""
        if self.is_maximum:
            value = value - self.quantity if value > self.quantity else 0
        self.quantity += value
        self.event_count += 1
        if self._tab is not None:
            self._tab.add(self._usage(value, properties, event_time))
        return value

    def settle(self, asked: int, shortfall: int) -> None:
        """Change what was asked and what was short, and see what is left over."""
        self.asked += asked
        self.shortfall += shortfall
        if self._tab is not None:
            self._tab.charged_atoms = self.asked
        self.left_over = self.owed()

    def owed(self) -> int:
        """round(cost) − asked, in atoms; nothing where all is billed on the invoice."""
        if not self.from_wallet:
            return 0
        return charge(self.pricing.price, self.state(), self.asked, self.scale)

    def difference(self) -> int:
        """round(cost) − asked, in atoms, as a correction sees it: what was counted wrongly is no
        fall of use, so a price that keeps its high water gives back for it too."""
        if self.from_wallet and self._high_water and self._tab is None and self.is_additive:
            return self._cost(self.quantity) - self.asked
        return self.owed()

    def state(self) -> State:
        """The rating state."""
        if self._tab is not None:
            return self._tab.state
        return State(quantity=self.quantity, event_count=self.event_count, share=self.stretch.share)

    def quantity_text(self) -> str:
        """The quantity as a decimal string."""
        return text_of(self.quantity)

    def state_document(self) -> str | None:
        """What of the rating state must be stored beside quantity and number of events."""
        return None if self._tab is None else json.dumps(render_state(self._tab.state))

    def _cost(self, quantity: Number) -> int:
        """With a plain price: round(C(quantity)), in atoms."""
        numerator = self._of_quantity(quantity)
        return atoms_of(numerator, self._unit, self.scale, RoundingMode.HALF_UP)

    def _ask(self, delta: int) -> int:
        if delta < 0:
            self.left_over = 0 if self._high_water else delta
            self.only_grew = False
            return 0
        self.left_over = 0
        self.asked += delta
        return delta

    def _usage(self, value: Number, properties: Mapping[str, str], event_time: datetime) -> Usage:
        window = ""
        if self.pricing.window is not None:
            window = window_name(self.pricing.window, event_time, ZoneInfo(self.time_zone))
        # A price of amounts or costs takes the meter's value as the amount or cost of the event.
        return Usage(quantity=value, amount=value, cost=value, properties=properties, window=window)

    def _empty(self) -> State:
        return State(share=self.stretch.share)

    def _tab_of(self, state: State) -> Tab:
        return Tab(self.pricing.price, self.scale, state=state, charged_atoms=self.asked)


def text_of(quantity: Number) -> str:
    """A quantity as a decimal string; whole ones, which most are, by the short way."""
    return str(quantity) if isinstance(quantity, int) else number_text(quantity)
