"""Rating requests and results as documents, keyed by the fields of the `Rating…` messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from kernel.errors import InvalidValue
from kernel.money import SCALE_MAX, RoundingMode, format_atoms, round_to_atoms
from rating.advance import advance
from rating.breakdown import rate
from rating.components import Breakdown, Component
from rating.document import parse_price
from rating.exact import Number, exact, number_text
from rating.fields import Fields
from rating.margin import close
from rating.price import Price
from rating.state import Level, State, Usage

EVENTS_MAX = 100_000  # a question, not a period: a million events are rated by metering
LEVELS_MAX = 100_000
PRICES_MAX = 100
SCALE_DEFAULT = 9  # what currencies have unless told otherwise


@dataclass(frozen=True, slots=True)
class PeriodUsage:
    """What a request says was used: events in order, and facts about the period."""

    events: tuple[Usage, ...]
    begun: State

    def state_for(self, price: Price) -> State:
        """The state of a price after all of it. Raises what `rating.advance` raises."""
        state = self.begun
        for usage in self.events:
            state = advance(price, state, usage)
        return state


@dataclass(frozen=True, slots=True)
class RatingRequest:
    """A parsed question."""

    prices: tuple[Price, ...]
    usage: PeriodUsage
    scale: int = SCALE_DEFAULT
    mode: RoundingMode = RoundingMode.HALF_UP
    charged: Number | None = None
    close: bool = False


def answer(document: Mapping[str, Any]) -> dict[str, Any]:
    """Rate what a request document asks, and answer with a result document.

    Raises a Refusal: InvalidValue naming the path of a fault, or UnpricedUsage.
    """
    request = parse_request(document)
    breakdowns = [_rate(request, price) for price in request.prices]
    result: dict[str, Any] = {
        "breakdowns": [_render(request, breakdown) for breakdown in breakdowns]
    }
    assets = {breakdown.asset for breakdown in breakdowns}
    if len(assets) == 1:
        result["total"] = _render_total(request, breakdowns)
    return result


def parse_request(document: Mapping[str, Any]) -> RatingRequest:
    """Read a request; every fault is an InvalidValue naming its path."""
    fields = Fields(document, "")
    single = fields.take("price")
    several = fields.values("prices", PRICES_MAX)
    if (single is None) == (not several):
        raise InvalidValue("price", "exactly one of price and prices is required")
    prices = [_price(single, "price")] if single is not None else []
    prices += [_price(each, f"prices[{index}]") for index, each in enumerate(several)]
    usage = fields.inner("usage")
    scale = fields.whole("scale")
    if scale is not None and scale > SCALE_MAX:
        raise InvalidValue("scale", f"{scale} is not between 0 and {SCALE_MAX}")
    request = RatingRequest(
        prices=tuple(prices),
        usage=PeriodUsage((), State()) if usage is None else parse_usage(usage),
        scale=SCALE_DEFAULT if scale is None else scale,
        mode=fields.option("rounding_mode", RoundingMode),
        charged=fields.number("charged", signed=True),
        close=fields.flag("close", False),
    )
    fields.done()
    if request.charged is not None and len(prices) > 1:
        raise InvalidValue("charged", "is for a single price; each has its own")
    return request


def parse_usage(fields: Fields) -> PeriodUsage:
    """Read the usage of a period, given as totals or as events."""
    totals = fields.given(("quantity", "event_count", "amount", "cost"))
    events = [_event(inner) for inner in fields.items("events", EVENTS_MAX)]
    if totals and events:
        raise InvalidValue(fields.at(totals[0]), "is a total, and there are events beside it")
    if totals:
        events = [_total(fields)]
    levels = tuple(_level(inner) for inner in fields.items("levels", LEVELS_MAX))
    share = fields.number("share")
    if share is not None and share > 1:
        raise InvalidValue(fields.at("share"), f"{number_text(share)} is more than 1")
    begun = State(
        share=1 if share is None else share,
        levels=levels,
        rolled_over=fields.number("rolled_over") or 0,
        committed=fields.number("committed"),
    )
    fields.done()
    return PeriodUsage(tuple(events), begun)


def _price(document: object, path: str) -> Price:
    if not isinstance(document, Mapping):
        raise InvalidValue(path, "is not an object with named fields")
    return parse_price(document, path)


def _total(fields: Fields) -> Usage:
    count = fields.whole("event_count")
    return Usage(
        quantity=fields.number("quantity", signed=True) or 0,
        amount=fields.number("amount", signed=True) or 0,
        cost=fields.number("cost", signed=True) or 0,
        event_count=1 if count is None else count,
    )


def _event(fields: Fields) -> Usage:
    quantity = fields.number("quantity", signed=True)
    usage = Usage(
        quantity=1 if quantity is None else quantity,
        amount=fields.number("amount", signed=True) or 0,
        cost=fields.number("cost", signed=True) or 0,
        properties=fields.names("properties"),
        window=fields.text("window"),
        time=_time(fields),
    )
    fields.done()
    return usage


def _time(fields: Fields) -> datetime | None:
    text = fields.text("time")
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = datetime.min
    if instant.tzinfo is None:
        raise InvalidValue(
            fields.at("time"), f"{text!r} is no time with an offset, as 2026-01-31T08:30:00Z"
        )
    return instant


def _level(fields: Fields) -> Level:
    share, quantity = fields.number("share"), fields.number("quantity", signed=True)
    if share is None or quantity is None:
        raise InvalidValue(fields.path, "needs both share and quantity")
    fields.done()
    return Level(share, quantity)


def _rate(request: RatingRequest, price: Price) -> Breakdown:
    try:
        state = request.usage.state_for(price)
    except InvalidValue as fault:
        raise fault.inside("usage") from fault
    if request.close:
        return close(price, state, request.charged or 0).breakdown
    return rate(price, state)


def _render(request: RatingRequest, breakdown: Breakdown) -> dict[str, Any]:
    atoms = round_to_atoms(breakdown.cost, request.scale, request.mode)
    document: dict[str, Any] = {
        "asset": breakdown.asset,
        "exact": number_text(breakdown.cost),
        "amount": format_atoms(atoms, request.scale),
        "atoms": str(atoms),
        "components": [render_component(component) for component in breakdown.components],
    }
    if request.charged is not None:
        charged = round_to_atoms(request.charged, request.scale, request.mode)
        document["delta"] = number_text(breakdown.cost - request.charged)
        document["delta_atoms"] = str(atoms - charged)
    return document


def _render_total(request: RatingRequest, breakdowns: list[Breakdown]) -> dict[str, Any]:
    """The sum. Its rounded amount is the sum of the rounded ones, as on an invoice (RND-2)."""
    cost = sum((breakdown.cost for breakdown in breakdowns), Fraction(0))
    atoms = sum(round_to_atoms(each.cost, request.scale, request.mode) for each in breakdowns)
    return {
        "asset": breakdowns[0].asset,
        "exact": number_text(cost),
        "amount": format_atoms(atoms, request.scale),
        "atoms": str(atoms),
    }


def render_breakdown(
    breakdown: Breakdown, scale: int, mode: RoundingMode = RoundingMode.HALF_UP
) -> dict[str, Any]:
    """The document of a breakdown, its cost rounded once to atoms of 10^-scale."""
    return _render(RatingRequest((), PeriodUsage((), State()), scale, mode), breakdown)


def render_component(component: Component) -> dict[str, str]:
    """The document of one part of a cost; what it does not have is left out."""
    numbers = {
        "over": component.over,
        "up_to": component.up_to,
        "quantity": component.quantity,
        "unit_price": component.unit_price,
        "amount": component.amount,
    }
    document = {"name": component.name}
    if component.group:
        document["group"] = component.group
    return document | {
        name: number_text(exact(value)) for name, value in numbers.items() if value is not None
    }
