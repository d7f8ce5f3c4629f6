"""Generated prices, as documents, and generated usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from kernel.money import format_decimal
from rating import Price, Usage, exact, parse_price
from rating.exact import Number

# Deterministic: the same examples in every run, none remembered between runs.
claims = settings(derandomize=True, deadline=None, database=None, max_examples=150)

Document = dict[str, Any]

DIMENSION = "model"
WINDOWS = ("2026-01-01", "2026-01-02", "2026-01-03")
PROPERTIES = ("small", "large", "other")


def decimals(most: int, places: int, least: int = 0) -> st.SearchStrategy[str]:
    """Decimal strings from `least` to `most` units of 10^-places."""
    return st.integers(least, most).map(
        lambda units: format_decimal(Decimal(units).scaleb(-places))
    )


MONEY = st.one_of(decimals(10_000, 2), decimals(10_000, 6), decimals(50, 0))
BOUND = st.one_of(st.integers(1, 200).map(str), decimals(20_000, 2, least=1))
SIZE = st.one_of(st.integers(1, 25).map(str), decimals(500, 1, least=1))
QUANTITIES = st.one_of(
    st.integers(0, 120),
    decimals(5_000, 2).map(lambda text: exact(Decimal(text))),
    st.fractions(0, 50, max_denominator=7).map(exact),
)
SIGNED = st.one_of(QUANTITIES, QUANTITIES, QUANTITIES.map(lambda number: -number))
SHARES = st.fractions(Fraction(1, 10), 1, max_denominator=31)


@st.composite
def ladders(
    draw: st.DrawFn, *, flats: bool = True, packages: bool = True, price_name: str = "unit_price"
) -> list[Document]:
    bounds = sorted({Decimal(text) for text in draw(st.lists(BOUND, max_size=3))})
    tiers: list[Document] = []
    for bound in [*bounds, None]:
        tier: Document = {price_name: draw(MONEY)}
        if bound is not None:
            tier["up_to"] = format_decimal(bound)
        if flats and draw(st.booleans()):
            tier["flat_fee"] = draw(MONEY)
        if packages and draw(st.integers(0, 3)) == 0:
            tier["package_size"] = draw(SIZE)
        tiers.append(tier)
    return tiers


def _options(draw: st.DrawFn, **choices: list[str]) -> Document:
    return {
        name: draw(st.sampled_from(values))
        for name, values in choices.items()
        if draw(st.booleans())
    }


def _tiered_options(draw: st.DrawFn) -> Document:
    return _options(
        draw,
        bound=["UPPER_INCLUSIVE", "UPPER_EXCLUSIVE"],
        flat_at_zero=["CHARGE", "WAIVE"],
    )


@st.composite
def quantity_models(draw: st.DrawFn, names: tuple[str, ...] = ()) -> Document:
    """A model that prices one total quantity."""
    every = names or ("unit", "package", "graduated", "volume", "stairstep")
    name = draw(st.sampled_from(every))
    match name:
        case "unit":
            return {"unit": {"unit_price": draw(MONEY)}}
        case "package":
            body: Document = {"size": draw(SIZE), "amount": draw(MONEY)}
            body |= _options(draw, free_units=["0", "5", "7.5"], package_round=["UP", "DOWN"])
            return {"package": body | {"packages_min": draw(st.integers(0, 2))}}
        case "stairstep":
            tiers = draw(ladders(flats=False, packages=False, price_name="flat_fee"))
            return {"stairstep": {"tiers": tiers} | _tiered_options(draw)}
        case _:
            return {name: {"tiers": draw(ladders())} | _tiered_options(draw)}


@st.composite
def amount_models(draw: st.DrawFn, *, allowances: bool = True) -> Document:
    """A model that prices stated amounts or costs."""
    every = ["percentage", "graduated_percentage", "dynamic", "cost_plus"]
    name = draw(st.sampled_from(every))
    rates = decimals(300, 3)
    match name:
        case "percentage":
            body: Document = {"rate": draw(rates), "fixed_fee": draw(MONEY)}
            if allowances:
                body |= _options(draw, free_amount=["0", "30", "99.5"])
                if draw(st.booleans()):
                    body["free_events"] = draw(st.integers(0, 4))
            least, most = sorted(draw(st.tuples(decimals(300, 2), decimals(300, 2))), key=Decimal)
            if draw(st.booleans()):
                body |= {"event_amount_min": least, "event_amount_max": most}
            body |= _options(draw, fixed_at_zero=["SUPPRESS", "CHARGE"])
            return {"percentage": body}
        case "graduated_percentage":
            tiers = draw(ladders(packages=False, price_name="rate"))
            return {"graduated_percentage": {"tiers": tiers} | _tiered_options(draw)}
        case "dynamic":
            body = {"multiplier": draw(decimals(300, 2))}
            return {"dynamic": body | _options(draw, zero_quantity=["FREE", "CHARGE"])}
        case _:
            return {"cost_plus": {draw(st.sampled_from(["markup", "margin"])): draw(rates)}}


@st.composite
def matrices(draw: st.DrawFn, *, allowances: bool = True) -> Document:
    cell_models = st.one_of(quantity_models(), amount_models(allowances=allowances))
    cells = [{"values": {DIMENSION: value}, **draw(cell_models)} for value in PROPERTIES[:2]]
    cells.append({"name": "the rest", **draw(cell_models)})
    return {"matrix": {"dimensions": [DIMENSION], "cells": cells}}


@st.composite
def times_of_use(draw: st.DrawFn, *, allowances: bool = True) -> Document:
    models = st.one_of(quantity_models(), amount_models(allowances=allowances))
    slots = [
        {"name": "peak", "weekdays": ["MONDAY", "FRIDAY"], "start": "08:00", "end": "20:00"},
        {"start": "22:00", "end": "06:30"},
        {},
    ]
    zone = draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))
    return {"time_of_use": {"time_zone": zone, "slots": [slot | draw(models) for slot in slots]}}


TIMES = st.integers(0, 7 * 24 * 4).map(
    lambda quarter: datetime(2026, 3, 27, tzinfo=UTC) + timedelta(minutes=15 * quarter)
)


@st.composite
def prices(
    draw: st.DrawFn, *, allowances: bool = True, decreasing: bool = True, gated: bool = False
) -> Price:
    """Any valid price. `gated`: without what `max_quantity` does not answer for."""
    kind = draw(st.integers(0, 6))
    if kind == 6:
        document: Document = draw(times_of_use(allowances=allowances)) | draw(_amount_steps())
    elif kind <= 2:
        document = draw(quantity_models()) | draw(_quantity_steps())
    elif kind == 3:
        document = draw(amount_models(allowances=allowances)) | draw(_amount_steps())
    elif kind == 4:
        document = draw(matrices(allowances=allowances)) | draw(_amount_steps())
    elif draw(st.booleans()) and not gated:
        seat = draw(quantity_models()) | _options(
            draw, seat_basis=["TIME_WEIGHTED", "PEAK", "CLOSING"]
        )
        document = {"seat": seat}
    else:
        document = {"flat": {"amount": draw(MONEY)}}
    document["asset"] = "USD"
    if draw(st.integers(0, 2)) == 0:
        document["maximum"] = draw(decimals(20_000, 2))
    if draw(st.integers(0, 2)) == 0 and "maximum" not in document:
        document["minimum"] = draw(decimals(20_000, 2))
    document |= _options(
        draw, stub_bounds=["FIXED", "PRORATED"], minimum_at_zero=["APPLY", "WAIVE"]
    )
    if decreasing and draw(st.integers(0, 3)) == 0:
        document["on_decrease"] = "HIGH_WATER"
    return parse_price(document)


@st.composite
def level_prices(draw: st.DrawFn) -> Price:
    """A price of levels over time: seats, or a model with time weighting."""
    model = draw(quantity_models())
    document: Document
    if draw(st.booleans()):
        document = {"seat": model | {"seat_basis": draw(st.sampled_from(_BASES))}}
    else:
        document = model | {"time_weighting": draw(st.sampled_from(["SECOND", "DAY"]))}
    document |= _options(draw, volume_weighting=["PERIOD_TIER", "LEVEL_INTEGRAL"])
    if draw(st.booleans()):
        document["included"] = {"quantity": draw(BOUND)} | _options(
            draw, mode=["SUBTRACT", "LEADING_TIER"]
        )
    if draw(st.integers(0, 3)) == 0:
        document |= {"divide_by": "3"} | _options(draw, divide_round=["UP", "DOWN"])
    return parse_price(document | {"asset": "USD"})


_BASES = ("TIME_WEIGHTED", "PEAK", "CLOSING")


@st.composite
def _quantity_steps(draw: st.DrawFn) -> Document:
    steps = _options(draw, negative_quantity=["CLAMP", "MIRROR"])
    if draw(st.integers(0, 2)) == 0:
        steps["divide_by"] = draw(st.sampled_from(["3", "10", "0.5"]))
        steps |= _options(draw, divide_round=["NONE", "UP", "DOWN", "NEAREST"])
    steps |= draw(st.sampled_from([{}, {}, {"accumulate": "EVENT"}, _WINDOW]))
    kind = draw(st.integers(0, 7))
    if kind in (0, 1):
        included: Document = {"quantity": draw(BOUND)} | _options(
            draw, mode=["SUBTRACT", "LEADING_TIER"]
        )
        if included.get("mode") != "LEADING_TIER":
            if "accumulate" not in steps:
                included |= _options(draw, reset=["DAY", "BILLING_PERIOD"])
            included |= _options(draw, rollover_max=["0", "12.5"])
        steps["included"] = included
    if kind == 2:
        steps["included"] = {"amount": draw(decimals(2_000, 2))}
    if kind == 3:
        steps["included"] = {"unlimited": True}
    if draw(st.integers(0, 2)) == 0:
        steps["overage_multiplier"] = draw(st.sampled_from(["1.1", "1.5", "0.9"]))
    return steps


_WINDOW = {"accumulate": "WINDOW", "window": "DAY"}


@st.composite
def _amount_steps(draw: st.DrawFn) -> Document:
    steps = _options(draw, negative_quantity=["CLAMP", "MIRROR"])
    steps |= draw(st.sampled_from([{}, {}, _WINDOW]))
    if draw(st.integers(0, 4)) == 0:
        steps["included"] = {"amount": draw(decimals(2_000, 2))}
        steps |= _options(draw, overage_multiplier=["1.1", "1.5"])
    return steps


@st.composite
def usages(draw: st.DrawFn, *, signed: bool = True) -> Usage:
    numbers: st.SearchStrategy[Number] = SIGNED if signed else QUANTITIES
    return Usage(
        quantity=draw(numbers),
        amount=draw(numbers),
        cost=draw(numbers),
        properties={DIMENSION: draw(st.sampled_from(PROPERTIES))},
        window=draw(st.sampled_from(WINDOWS)),
        time=draw(TIMES),
    )


def periods(*, signed: bool = True) -> st.SearchStrategy[list[Usage]]:
    """The events of a period, in their order."""
    return st.lists(usages(signed=signed), max_size=12)
