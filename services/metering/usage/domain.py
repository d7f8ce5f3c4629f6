"""Running usage: one price of one subscription item in one billing period, as events come in."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from kernel.money import RoundingMode, format_atoms, round_to_atoms
from metering.aggregates.domain.counting import Counter, Opening, Reading
from metering.aggregates.domain.tally import ADDS_UP, Aggregation, Moment, Rule, Tally
from metering.meters.domain import Meter
from metering.ratecards.domain import Pricing, Stretch, window_name
from rating import State, Usage, advance, charge, max_quantity, parse_state, render_state
from rating.cells import part_of
from rating.exact import Number, atoms_of, number_text
from rating.price import Matrix, OnDecrease, StubBounds, TimeOfUse
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
        "counter",
        "customer_id",
        "dimensions",
        "event_count",
        "from_wallet",
        "is_new",
        "left_over",
        "meter",
        "number",
        "only_grew",
        "plan_code",
        "price_id",
        "pricing",
        "quantity",
        "rule",
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
        rule: Rule,
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
        self.rule = rule
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
        self.counter: Counter | None = None
        document = json.loads(rating_state) if rating_state else {}
        counted = document.pop("counter", None)
        if not rule.is_simple:
            self._count_by_rule(counted)
        if from_wallet and not self.is_plain:
            self.only_grew = False
            self._tab = self._tab_of(parse_state(document) if document else self._empty())

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
        return self.counter is None and (self.is_plain or not self.from_wallet)

    @property
    def adds_up(self) -> bool:
        """Whether usage that is reserved adds to usage that was counted."""
        return self.rule.aggregation in ADDS_UP

    @property
    def is_live(self) -> bool:
        """Whether wallets are charged as events come, rather than at the end of the period."""
        return self.from_wallet and self.rule.is_live

    def add(
        self,
        value: Number,
        properties: Mapping[str, str],
        event_time: datetime,
        meter: Meter | None = None,
        sequence: int = 0,
    ) -> tuple[Number, int]:
        """Count one event; answers the usage it added and the atoms to charge for it. A meter
        that does more than add values up must say itself and the event's place in the order."""
        if self.counter is not None:
            said = value
            value = self._grow(value, properties, event_time, meter, sequence)
            if not self.rule.is_live:
                self.quantity += value
                self.event_count += 1
                self._tab_add(value, properties, event_time)
                self.left_over = self.owed()
                return said, 0
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
        meter: Meter | None = None,
    ) -> int:
        """Atoms that one event more would cost, after usage that is reserved and held for."""
        if not self.rule.is_live:
            return 0
        if self.counter is not None:
            value = self._preview(value, properties, event_time, meter)
        if not self.adds_up:
            reserved = 0
        if self.is_plain:
            cost = self._cost(self.quantity + reserved + value)
            return max(cost - self.asked - held, 0)
        usage = self._usage(value, properties, event_time)
        state = advance(self.pricing.price, self.state(), usage)
        return max(charge(self.pricing.price, state, self.asked, self.scale), 0)

    def affordable(
        self,
        atoms: int,
        properties: Mapping[str, str],
        event_time: datetime,
        reserved: Number,
        held: int,
    ) -> Number | None:
        """The most whole units that one event more may have at a cost of so many atoms, after
        usage that is reserved and held for; None where there is no end, or none that the total
        alone would tell."""
        if not self.adds_up or self.counter is not None or not self.rule.is_live:
            return None
        state = self.state()
        charged = self.asked
        if self.is_plain:
            state = replace(state, quantity=state.quantity + reserved)
            charged += held
        unit = 10**self.scale
        usage = self._usage(0, properties, event_time)
        return max_quantity(
            self.pricing.price,
            state,
            Fraction(atoms, unit),
            charged=Fraction(charged, unit),
            usage=usage,
            scale=self.scale,
        )

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
        if self.counter is not None:
            self.counter.restart()
            self._begin(self.counter)

    def recount(
        self,
        value: Number,
        properties: Mapping[str, str],
        event_time: datetime,
        meter: Meter | None = None,
        sequence: int = 0,
    ) -> Number:
        """Count one event again without charging it; answers the usage it added."""
        if self.counter is not None:
            value = self._grow(value, properties, event_time, meter, sequence)
        self.quantity += value
        self.event_count += 1
        self._tab_add(value, properties, event_time)
        return value

    def open_with(self, openings: Mapping[str, Opening]) -> None:
        """Begin with what was carried over; whatever was counted before must be counted again."""
        assert self.counter is not None
        self.counter.openings = dict(openings)
        self.restart()

    def carried(self) -> list[tuple[Number, Opening, str]]:
        """What it began with: how much, of which part, and in which window of the price."""
        if self.counter is None:
            return []
        return [
            (self.counter.opening_value(part), opening, opening.window)
            for part, opening in self.counter.openings.items()
        ]

    def carry(self, openings: Mapping[str, Opening]) -> None:
        """Begin otherwise than was thought, with everything counted as it is. Only for a plain
        price: others are recounted."""
        assert self.counter is not None
        self.counter.openings = dict(openings)
        self.quantity = self.counter.total()
        self.settle(0, 0)

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
        if not self.rule.is_live:
            return 0
        if self.from_wallet and self._high_water and self._tab is None and self.is_additive:
            return self._cost(self.quantity) - self.asked
        return self.owed()

    def state(self) -> State:
        """The rating state."""
        if self._tab is not None:
            return self._tab.state
        return State(quantity=self.quantity, event_count=self.event_count, share=self.stretch.share)

    def quantity_text(self) -> str:
        """The quantity as a decimal string; one that never ends is cut to 18 places, because what
        it is made of is stored beside it."""
        if isinstance(self.quantity, int):
            return str(self.quantity)
        return format_atoms(round_to_atoms(self.quantity, 18), 18)

    def state_document(self) -> str | None:
        """What of the rating state must be stored beside quantity and number of events."""
        document = {} if self._tab is None else render_state(self._tab.state)
        if self.counter is not None:
            document["counter"] = self.counter.render()
        return json.dumps(document) if document or self._tab is not None else None

    def part_of(self, properties: Mapping[str, str], event_time: datetime) -> str:
        """Which cell and window of the price an event is of; empty where the price has none."""
        if self.pricing.is_plain:
            return ""
        return self._place(properties, self._window(event_time), event_time)

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
        window = self._window(event_time)
        # A price of amounts or costs takes the meter's value as the amount or cost of the event.
        return Usage(
            quantity=value,
            amount=value,
            cost=value,
            properties=properties,
            window=window,
            time=event_time,
        )

    def is_of(self, properties: Mapping[str, str]) -> bool:
        """Whether an event of its meter with these properties falls under its price."""
        return all(properties.get(name, "") == value for name, value in self.dimensions)

    def reads_only(self, names: Collection[str]) -> bool:
        """Whether its price looks at no other properties than these."""
        model = self.pricing.price.model
        looked_at = {name for name, _ in self.dimensions}
        if isinstance(model, Matrix):
            looked_at.update(model.dimensions)
        return looked_at <= set(names)

    def part_at_start(self, properties: Mapping[str, str]) -> str:
        """The part that usage is of which was there when the period began."""
        if self.pricing.is_plain:
            return ""
        start = self.stretch.in_force.start
        return self._place(properties, self.window_at_start(), start)

    def window_at_start(self) -> str:
        """The window of the price that the period begins in."""
        return self._window(self.stretch.in_force.start)

    def _window(self, event_time: datetime) -> str:
        if self.pricing.window is None:
            return ""
        return window_name(self.pricing.window, event_time, ZoneInfo(self.time_zone))

    def _place(self, properties: Mapping[str, str], window: str, event_time: datetime) -> str:
        model = self.pricing.price.model
        if not isinstance(model, Matrix | TimeOfUse):
            return window
        return f"{window}/{part_of(model, Usage(properties=properties, time=event_time))}"

    def _count_by_rule(self, stored: dict[str, Any] | None) -> None:
        """Keep figures by the meter's rule; a maximum of before these were kept has one part."""
        stretch = self.stretch
        self.only_grew = False
        self.counter = Counter(self.rule, stretch.in_force, stretch.period)
        if stored is not None:
            self.counter.read(stored)
            self.quantity = self.counter.total()
        elif self.event_count and self.rule.aggregation is Aggregation.MAX:
            self.counter.parts[""] = Tally(self.event_count, self.quantity)

    def _begin(self, counter: Counter) -> None:
        """Usage that is there before any event."""
        for part, opening in counter.openings.items():
            value = counter.opening_value(part)
            self.quantity += value
            if self._tab is not None and value:
                usage = Usage(
                    quantity=value,
                    amount=value,
                    cost=value,
                    event_count=0,
                    properties=opening.properties,
                    window=opening.window,
                    time=self.stretch.in_force.start,
                )
                self._tab.add(usage)

    def _grow(
        self,
        value: Number,
        properties: Mapping[str, str],
        event_time: datetime,
        meter: Meter | None,
        sequence: int,
    ) -> Number:
        assert self.counter is not None
        part = self.part_of(properties, event_time)
        return self.counter.count(part, read(value, properties, event_time, meter, sequence))

    def _preview(
        self,
        value: Number,
        properties: Mapping[str, str],
        event_time: datetime,
        meter: Meter | None,
    ) -> Number:
        assert self.counter is not None
        part = self.part_of(properties, event_time)
        # As if it came last of all at its instant.
        last = 2**62
        return self.counter.preview(part, read(value, properties, event_time, meter, last))

    def _tab_add(self, value: Number, properties: Mapping[str, str], event_time: datetime) -> None:
        if self._tab is not None:
            self._tab.add(self._usage(value, properties, event_time))

    def _empty(self) -> State:
        return State(share=self.stretch.share)

    def _tab_of(self, state: State) -> Tab:
        return Tab(self.pricing.price, self.scale, state=state, charged_atoms=self.asked)


def read(
    value: Number,
    properties: Mapping[str, str],
    event_time: datetime,
    meter: Meter | None,
    sequence: int,
) -> Reading:
    """What an event says to a meter that does more than add values up."""
    moment = Moment.of(event_time, sequence)
    if meter is None or meter.aggregation is not Aggregation.UNIQUE_COUNT:
        return Reading(value, moment)
    return Reading(value, moment, meter.key(properties, "event"), meter.is_added(properties))


def text_of(quantity: Number) -> str:
    """A quantity as a decimal string; whole ones, which most are, by the short way."""
    return str(quantity) if isinstance(quantity, int) else number_text(quantity)
