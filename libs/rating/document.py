"""Prices as documents: plain objects whose keys are the fields of `tollgate.type.v1.Price`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, cast

from kernel.errors import InvalidValue
from kernel.period import parse_zone
from rating.cells import DAY_MINUTES, parts_of
from rating.fields import Fields
from rating.price import (
    ANY,
    CELLS_MAX,
    DIMENSIONS_MAX,
    INCLUDED_RESETS,
    ONE,
    SLOTS_MAX,
    TIER_RESETS,
    TIERS_MAX,
    WINDOW_RESETS,
    ZERO,
    Accumulate,
    Bound,
    Cell,
    CellModel,
    CostPlus,
    DivideRound,
    Dynamic,
    FixedAtZero,
    Flat,
    FlatAtZero,
    Graduated,
    GraduatedPercentage,
    Included,
    IncludedMode,
    LevelModel,
    Matrix,
    MinimumAtZero,
    Model,
    NegativeQuantity,
    OnDecrease,
    Package,
    PackageRound,
    Percentage,
    Price,
    Reset,
    Seat,
    SeatBasis,
    Slot,
    Stairstep,
    StubBounds,
    Tier,
    TierPosition,
    TimeOfUse,
    TimeWeighting,
    Unit,
    Volume,
    VolumeWeighting,
    Weekday,
    WindowUnit,
    ZeroQuantity,
)
from rating.render import render_price as render_price

_CLOCK = re.compile(r"(\d\d):([0-5]\d)")
_ASSET = re.compile(r"[A-Za-z0-9_]{1,32}")

LEVEL_MODELS = ("flat", "unit", "package", "graduated", "volume", "stairstep")
CELL_MODELS = (*LEVEL_MODELS, "percentage", "graduated_percentage", "dynamic", "cost_plus")
MODELS = (*CELL_MODELS, "seat", "matrix", "time_of_use")


def parse_price(document: Mapping[str, Any], path: str = "") -> Price:
    """Read a price document.

    Raises InvalidValue whose field is the path of the fault ("graduated.tiers[2].up_to"), under
    `path` where the document is part of a larger one.
    """
    fields = Fields(document, path)
    price = Price(
        asset=_parse_asset(fields),
        model=_parse_model(fields, MODELS),
        accumulate=fields.option("accumulate", Accumulate),
        window=fields.choice("window", WindowUnit),
        divide_by=_or(fields.decimal("divide_by", positive=True), ONE),
        divide_round=fields.option("divide_round", DivideRound),
        negative_quantity=fields.option("negative_quantity", NegativeQuantity),
        included=_parse_included(fields),
        overage_multiplier=_or(fields.decimal("overage_multiplier"), ONE),
        minimum=fields.decimal("minimum"),
        minimum_prorated=fields.flag("minimum_prorated", True),
        minimum_at_zero=fields.option("minimum_at_zero", MinimumAtZero),
        maximum=fields.decimal("maximum"),
        on_decrease=fields.option("on_decrease", OnDecrease),
        tier_reset=fields.option("tier_reset", Reset),
        stub_bounds=fields.option("stub_bounds", StubBounds),
        tier_position=fields.option("tier_position", TierPosition),
        time_weighting=fields.option("time_weighting", TimeWeighting),
        volume_weighting=fields.option("volume_weighting", VolumeWeighting),
    )
    fields.done()
    _check(price, fields)
    return price


def _parse_asset(fields: Fields) -> str:
    asset = fields.text("asset")
    if not asset:
        raise InvalidValue(fields.at("asset"), "is required")
    if not _ASSET.fullmatch(asset):
        raise InvalidValue(fields.at("asset"), "must be 1 to 32 characters of A-Z a-z 0-9 _")
    return asset


def _check(price: Price, fields: Fields) -> None:
    """The rules that hold between fields."""
    over_time = isinstance(price.model, Seat) or price.time_weighting is not TimeWeighting.NONE
    one_quantity = isinstance(price.model, LevelModel | Seat) and not isinstance(price.model, Flat)
    if price.accumulate is Accumulate.WINDOW and price.window is None:
        raise InvalidValue(fields.at("window"), "is required where accumulate is WINDOW")
    if price.accumulate is not Accumulate.WINDOW and price.window is not None:
        raise InvalidValue(fields.at("window"), "is only for accumulate WINDOW")
    if price.minimum is not None and price.maximum is not None and price.minimum > price.maximum:
        raise InvalidValue(fields.at("minimum"), f"is above the maximum {price.maximum}")
    if price.tier_reset not in TIER_RESETS:
        raise InvalidValue(fields.at("tier_reset"), "must be BILLING_PERIOD or longer")
    if price.accumulate is not Accumulate.PERIOD and (over_time or isinstance(price.model, Flat)):
        raise InvalidValue(fields.at("accumulate"), "a fee or a level is for the period")
    if price.accumulate is Accumulate.EVENT and _prices_events(price.model):
        raise InvalidValue(fields.at("accumulate"), "a percentage is by event already")
    if price.time_weighting is not TimeWeighting.NONE and not one_quantity:
        raise InvalidValue(fields.at("time_weighting"), "is for unit and tier prices only")
    if price.divide_by != ONE and not (one_quantity or isinstance(price.model, Matrix | TimeOfUse)):
        raise InvalidValue(fields.at("divide_by"), "this model does not price a quantity")
    by_amount = price.included is not None and price.included.amount is not None
    if price.overage_multiplier != ONE and not by_amount and (over_time or not one_quantity):
        raise InvalidValue(fields.at("overage_multiplier"), "this model has no units beyond")
    if price.included is not None:
        _check_included(price, price.included, fields, one_quantity, over_time)


def _check_included(
    price: Price, included: Included, fields: Fields, one_quantity: bool, over_time: bool
) -> None:
    if included.quantity is not None and not one_quantity:
        raise InvalidValue(
            fields.at("included.quantity"), "this model does not price one total quantity"
        )
    if included.reset not in WINDOW_RESETS:
        return
    if included.quantity is None:
        raise InvalidValue(fields.at("included.reset"), "a window is for a quantity only")
    if over_time or price.accumulate is not Accumulate.PERIOD:
        raise InvalidValue(
            fields.at("included.reset"), "a window of its own is for accumulate PERIOD only"
        )


def _prices_events(model: Model) -> bool:
    if isinstance(model, Matrix | TimeOfUse):
        return any(_prices_events(part.model) for part in parts_of(model))
    return isinstance(model, Percentage)


def _parse_included(fields: Fields) -> Included | None:
    inner = fields.inner("included")
    if inner is None:
        return None
    included = Included(
        quantity=inner.decimal("quantity"),
        amount=inner.decimal("amount"),
        unlimited=inner.flag("unlimited", False),
        mode=inner.option("mode", IncludedMode),
        reset=inner.option("reset", Reset),
        rollover_max=_or(inner.decimal("rollover_max"), ZERO),
    )
    inner.done()
    ways = (included.quantity is not None, included.amount is not None, included.unlimited)
    if sum(ways) != 1:
        raise InvalidValue(inner.path, "needs exactly one of quantity, amount and unlimited")
    if included.quantity is None and included.mode is IncludedMode.LEADING_TIER:
        raise InvalidValue(inner.at("mode"), "a leading tier needs a quantity")
    if included.quantity is None and included.rollover_max:
        raise InvalidValue(inner.at("rollover_max"), "only a quantity rolls over")
    if included.rollover_max and included.mode is IncludedMode.LEADING_TIER:
        raise InvalidValue(inner.at("rollover_max"), "a leading tier does not roll over")
    if included.reset not in INCLUDED_RESETS:
        raise InvalidValue(inner.at("reset"), "included units must begin anew at some time")
    if included.reset in WINDOW_RESETS and included.mode is IncludedMode.LEADING_TIER:
        raise InvalidValue(inner.at("reset"), "a leading tier lasts the period")
    return included


def _parse_model(fields: Fields, allowed: tuple[str, ...]) -> Any:
    given = fields.given(MODELS)
    if len(given) != 1 or given[0] not in allowed:
        found = "none is" if not given else f"{' and '.join(given)} given"
        raise InvalidValue(
            fields.at("model"), f"exactly one of {', '.join(allowed)} is required, {found}"
        )
    inner = fields.inner(given[0])
    assert inner is not None
    model = _PARSERS[given[0]](inner)
    inner.done()
    return model


def _parse_flat(fields: Fields) -> Flat:
    return Flat(fields.required("amount"))


def _parse_unit(fields: Fields) -> Unit:
    return Unit(fields.required("unit_price"))


def _parse_package(fields: Fields) -> Package:
    return Package(
        size=fields.required("size", positive=True),
        amount=fields.required("amount"),
        free_units=_or(fields.decimal("free_units"), ZERO),
        package_round=fields.option("package_round", PackageRound),
        packages_min=fields.whole("packages_min") or 0,
    )


def _parse_graduated(fields: Fields) -> Graduated:
    return Graduated(*_parse_ladder(fields, _parse_tier))


def _parse_volume(fields: Fields) -> Volume:
    return Volume(*_parse_ladder(fields, _parse_tier))


def _parse_stairstep(fields: Fields) -> Stairstep:
    return Stairstep(*_parse_ladder(fields, lambda f, b: Tier(b, flat_fee=f.required("flat_fee"))))


def _parse_graduated_percentage(fields: Fields) -> GraduatedPercentage:
    return GraduatedPercentage(*_parse_ladder(fields, _parse_percentage_tier))


def _parse_tier(fields: Fields, up_to: Decimal | None) -> Tier:
    return Tier(
        up_to=up_to,
        unit_price=_or(fields.decimal("unit_price"), ZERO),
        flat_fee=_or(fields.decimal("flat_fee"), ZERO),
        package_size=fields.decimal("package_size", positive=True),
    )


def _parse_percentage_tier(fields: Fields, up_to: Decimal | None) -> Tier:
    return Tier(
        up_to=up_to,
        unit_price=_or(fields.decimal("rate"), ZERO),
        flat_fee=_or(fields.decimal("flat_fee"), ZERO),
    )


def _parse_ladder(
    fields: Fields, parse_tier: Callable[[Fields, Decimal | None], Tier]
) -> tuple[tuple[Tier, ...], Bound, FlatAtZero]:
    """Tiers must rise, meet without gap or overlap, and end open."""
    tiers: list[Tier] = []
    reached: Decimal | None = ZERO
    last = fields.at("tiers")
    for tier in fields.items("tiers", TIERS_MAX):
        if reached is None:
            raise InvalidValue(f"{last}.up_to", "only the last tier may be open")
        over = tier.decimal("over")
        if over is not None and over != reached:
            fault = "leaves a gap after" if over > reached else "overlaps the tier that ends at"
            raise InvalidValue(tier.at("over"), f"{over} {fault} {reached}")
        up_to = tier.decimal("up_to")
        if up_to is not None and up_to <= reached:
            raise InvalidValue(
                tier.at("up_to"), f"{up_to} is not above {reached}: the tiers overlap"
            )
        tiers.append(parse_tier(tier, up_to))
        tier.done()
        reached, last = up_to, tier.path
    if not tiers:
        raise InvalidValue(last, "at least one tier is required")
    if reached is not None:
        raise InvalidValue(f"{last}.up_to", "the last tier must be open, without up_to")
    return tuple(tiers), fields.option("bound", Bound), fields.option("flat_at_zero", FlatAtZero)


def _parse_seat(fields: Fields) -> Seat:
    model = cast(LevelModel, _parse_model(fields, LEVEL_MODELS))
    return Seat(model, fields.option("seat_basis", SeatBasis))


def _parse_percentage(fields: Fields) -> Percentage:
    model = Percentage(
        rate=fields.required("rate"),
        fixed_fee=_or(fields.decimal("fixed_fee"), ZERO),
        free_events=fields.whole("free_events"),
        free_amount=fields.decimal("free_amount"),
        event_amount_min=fields.decimal("event_amount_min"),
        event_amount_max=fields.decimal("event_amount_max"),
        fixed_at_zero=fields.option("fixed_at_zero", FixedAtZero),
    )
    least, most = model.event_amount_min, model.event_amount_max
    if least is not None and most is not None and least > most:
        raise InvalidValue(fields.at("event_amount_min"), f"is above event_amount_max {most}")
    return model


def _parse_matrix(fields: Fields) -> Matrix:
    dimensions = tuple(
        name if isinstance(name, str) else ""
        for name in fields.values("dimensions", DIMENSIONS_MAX)
    )
    if not dimensions or "" in dimensions:
        raise InvalidValue(fields.at("dimensions"), "one or more property names are required")
    if len(set(dimensions)) != len(dimensions):
        raise InvalidValue(fields.at("dimensions"), "a property is named twice")
    cells: list[Cell] = []
    seen: set[tuple[str, ...]] = set()
    for inner in fields.items("cells", CELLS_MAX):
        values = inner.names("values")
        for name in values:
            if name not in dimensions:
                raise InvalidValue(inner.at(f"values.{name}"), "is not one of the dimensions")
        key = tuple(values.get(name, ANY) for name in dimensions)
        if key in seen:
            raise InvalidValue(inner.at("values"), "an earlier cell has the same values")
        seen.add(key)
        model = cast(CellModel, _parse_model(inner, CELL_MODELS))
        cells.append(Cell(key, model, inner.text("name")))
        inner.done()
    if not cells:
        raise InvalidValue(fields.at("cells"), "at least one cell is required")
    return Matrix(dimensions, tuple(cells))


def _parse_time_of_use(fields: Fields) -> TimeOfUse:
    """Slots in the order in which they are looked at; the last one must be always."""
    time_zone = fields.text("time_zone")
    if not time_zone:
        raise InvalidValue(fields.at("time_zone"), "is required")
    try:
        parse_zone(time_zone)
    except InvalidValue as fault:
        raise InvalidValue(fields.at("time_zone"), fault.why) from None
    slots: list[Slot] = []
    for inner in fields.items("slots", SLOTS_MAX):
        if slots and slots[-1].is_always:
            raise InvalidValue(inner.path, "is never reached: the slot before it is always")
        slots.append(_parse_slot(inner))
        inner.done()
    if not slots or not slots[-1].is_always:
        raise InvalidValue(
            fields.at("slots"), "the last slot must be always, without weekdays and hours"
        )
    return TimeOfUse(time_zone, tuple(slots))


def _parse_slot(fields: Fields) -> Slot:
    start = _parse_clock(fields.text("start"), fields.at("start"))
    end = _parse_clock(fields.text("end"), fields.at("end"))
    if start == DAY_MINUTES:
        raise InvalidValue(fields.at("start"), "24:00 is the end of the day")
    if (start is None) != (end is None):
        raise InvalidValue(fields.at("start" if start is None else "end"), "is required")
    if start is not None and start == end:
        raise InvalidValue(fields.at("end"), "is when it begins; leave both out for a whole day")
    weekdays = fields.choices("weekdays", Weekday)
    return Slot(
        model=cast(CellModel, _parse_model(fields, CELL_MODELS)),
        name=fields.text("name"),
        weekdays=tuple(day for day in Weekday if day in weekdays),
        start_minute=start,
        end_minute=end,
    )


def _parse_clock(text: str, path: str) -> int | None:
    """A local time "HH:MM" as minutes of the day; "24:00" is its end."""
    if not text:
        return None
    found = _CLOCK.fullmatch(text)
    minute = int(found[1]) * 60 + int(found[2]) if found else DAY_MINUTES + 1
    if minute > DAY_MINUTES:
        raise InvalidValue(path, f"{text!r} is no time of the day, such as 08:30")
    return minute


def _parse_dynamic(fields: Fields) -> Dynamic:
    return Dynamic(
        multiplier=_or(fields.decimal("multiplier"), ONE),
        zero_quantity=fields.option("zero_quantity", ZeroQuantity),
    )


def _parse_cost_plus(fields: Fields) -> CostPlus:
    model = CostPlus(markup=fields.decimal("markup"), margin=fields.decimal("margin"))
    if (model.markup is None) == (model.margin is None):
        raise InvalidValue(fields.path, "needs exactly one of markup and margin")
    if model.margin is not None and model.margin >= 1:
        raise InvalidValue(fields.at("margin"), f"{model.margin} is not below 1")
    return model


def _or(value: Decimal | None, default: Decimal) -> Decimal:
    return default if value is None else value


_PARSERS: dict[str, Callable[[Fields], Model]] = {
    "flat": _parse_flat,
    "unit": _parse_unit,
    "package": _parse_package,
    "graduated": _parse_graduated,
    "volume": _parse_volume,
    "stairstep": _parse_stairstep,
    "seat": _parse_seat,
    "percentage": _parse_percentage,
    "graduated_percentage": _parse_graduated_percentage,
    "matrix": _parse_matrix,
    "time_of_use": _parse_time_of_use,
    "dynamic": _parse_dynamic,
    "cost_plus": _parse_cost_plus,
}
