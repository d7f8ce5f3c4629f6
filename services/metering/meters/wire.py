"""Meters between protobuf and the domain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction

from chassis.wire import parse_member, parse_text, render_time
from kernel.errors import InvalidValue
from kernel.money import parse_decimal
from metering.aggregates.domain.tally import LEVELS, Aggregation, Rounding, RoundingMode
from metering.expressions.domain.compiling import Expression, compile_expression
from metering.expressions.domain.values import Fault, Type
from metering.meters.domain import (
    CODE_FORM,
    COMPARISONS,
    DIMENSIONS_MAX,
    FILTER_VALUES_MAX,
    FILTERS_MAX,
    Filter,
    FilterOperator,
    Meter,
    MeterState,
    Missing,
)
from rating.exact import number_text
from tollgate.metering.v1 import meter_pb2

PROPERTY_NAME_MAX = 64
PROPERTY_VALUE_MAX = 512
TYPES_MAX = 50  # as many properties as an event may have
DIGITS = range(-12, 19)

AGGREGATIONS = {
    meter_pb2.AGGREGATION_COUNT: Aggregation.COUNT,
    meter_pb2.AGGREGATION_SUM: Aggregation.SUM,
    meter_pb2.AGGREGATION_MAX: Aggregation.MAX,
    meter_pb2.AGGREGATION_LAST: Aggregation.LAST,
    meter_pb2.AGGREGATION_UNIQUE_COUNT: Aggregation.UNIQUE_COUNT,
    meter_pb2.AGGREGATION_WEIGHTED_SUM: Aggregation.WEIGHTED_SUM,
}
OPERATORS = {
    meter_pb2.FILTER_OPERATOR_IN: FilterOperator.IN,
    meter_pb2.FILTER_OPERATOR_NOT_IN: FilterOperator.NOT_IN,
    meter_pb2.FILTER_OPERATOR_EXISTS: FilterOperator.EXISTS,
    meter_pb2.FILTER_OPERATOR_NOT_EXISTS: FilterOperator.NOT_EXISTS,
    meter_pb2.FILTER_OPERATOR_EQUALS: FilterOperator.EQUALS,
    meter_pb2.FILTER_OPERATOR_NOT_EQUALS: FilterOperator.NOT_EQUALS,
    meter_pb2.FILTER_OPERATOR_LESS: FilterOperator.LESS,
    meter_pb2.FILTER_OPERATOR_AT_MOST: FilterOperator.AT_MOST,
    meter_pb2.FILTER_OPERATOR_MORE: FilterOperator.MORE,
    meter_pb2.FILTER_OPERATOR_AT_LEAST: FilterOperator.AT_LEAST,
}
TYPES = {
    meter_pb2.PROPERTY_TYPE_NUMBER: Type.NUMBER,
    meter_pb2.PROPERTY_TYPE_STRING: Type.STRING,
    meter_pb2.PROPERTY_TYPE_BOOL: Type.BOOL,
}
ROUNDINGS = {
    meter_pb2.METER_ROUNDING_MODE_ROUND: RoundingMode.ROUND,
    meter_pb2.METER_ROUNDING_MODE_CEIL: RoundingMode.CEIL,
    meter_pb2.METER_ROUNDING_MODE_FLOOR: RoundingMode.FLOOR,
}
MISSING = {
    meter_pb2.MISSING_VALUE_UNSPECIFIED: Missing.REFUSE,
    meter_pb2.MISSING_VALUE_REFUSE: Missing.REFUSE,
    meter_pb2.MISSING_VALUE_ZERO: Missing.ZERO,
    meter_pb2.MISSING_VALUE_SKIP: Missing.SKIP,
}
STATES = {
    MeterState.DRAFT: meter_pb2.METER_STATE_DRAFT,
    MeterState.PUBLISHED: meter_pb2.METER_STATE_PUBLISHED,
    MeterState.ARCHIVED: meter_pb2.METER_STATE_ARCHIVED,
}
_AGGREGATIONS_OUT = {domain: wire for wire, domain in AGGREGATIONS.items()}
_OPERATORS_OUT = {domain: wire for wire, domain in OPERATORS.items()}
TYPES_OUT = {domain: wire for wire, domain in TYPES.items()}
_ROUNDINGS_OUT = {domain: wire for wire, domain in ROUNDINGS.items()}
_MISSING_OUT = {
    Missing.ZERO: meter_pb2.MISSING_VALUE_ZERO,
    Missing.SKIP: meter_pb2.MISSING_VALUE_SKIP,
    Missing.REFUSE: meter_pb2.MISSING_VALUE_UNSPECIFIED,
}


def parse_code(text: str, field: str) -> str:
    """The code of a meter: 1 to 64 characters of [A-Za-z0-9_.-]."""
    return parse_text(text, field, maximum=64, pattern=CODE_FORM)


def parse_meter(message: meter_pb2.Meter, now: datetime, *, code: bool = True) -> Meter:
    """A meter to be created; raises InvalidValue naming the field."""
    aggregation = parse_member(message.aggregation, AGGREGATIONS, "meter.aggregation")
    types = parse_types(message.property_types, "meter.property_types")
    _check_value(message, aggregation, types)
    if message.filter_expression:
        found = parse_expression(message.filter_expression, types, "meter.filter_expression")
        if found.gives is not Type.BOOL:
            raise InvalidValue(
                "meter.filter_expression", f"gives a {found.gives.value}, no condition"
            )
    if message.carry_over and aggregation not in LEVELS:
        raise InvalidValue("meter.carry_over", f"a {aggregation.name} begins anew in each period")
    if len(message.filters) > FILTERS_MAX:
        raise InvalidValue("meter.filters", f"more than {FILTERS_MAX}")
    return Meter(
        code=parse_code(message.code, "meter.code") if code or message.code else "preview",
        name=parse_text(message.name, "meter.name", minimum=0),
        event_name=parse_text(message.event_name, "meter.event_name", maximum=128),
        aggregation=aggregation,
        value_property=message.value_property,
        filters=tuple(
            _parse_filter(inner, f"meter.filters[{index}]")
            for index, inner in enumerate(message.filters)
        ),
        dimensions=_parse_dimensions(message),
        unit=parse_text(message.unit, "meter.unit", minimum=0, maximum=32),
        create_time=now,
        value_expression=message.value_expression,
        filter_expression=message.filter_expression,
        types=types,
        operation_property=message.operation_property,
        carries=message.carry_over,
        rounding=_parse_rounding(message, aggregation),
        on_missing=_parse_missing(message, aggregation),
    )


def parse_types(given: Mapping[str, int], field: str) -> tuple[tuple[str, Type], ...]:
    """Declared properties, by name."""
    if len(given) > TYPES_MAX:
        raise InvalidValue(field, f"more than {TYPES_MAX}")
    return tuple(
        (
            parse_text(name, field, maximum=PROPERTY_NAME_MAX),
            parse_member(given[name], TYPES, f"{field}.{name}"),
        )
        for name in sorted(given)
    )


def parse_expression(text: str, types: tuple[tuple[str, Type], ...], field: str) -> Expression:
    """An expression over declared properties; raises InvalidValue saying where and why."""
    try:
        return compile_expression(text, types)
    except Fault as fault:
        raise InvalidValue(field, str(fault)) from None


def _check_value(
    message: meter_pb2.Meter, aggregation: Aggregation, types: tuple[tuple[str, Type], ...]
) -> None:
    """What is added up must be said once, by a property or by an expression of the right type."""
    name, expression = message.value_property, message.value_expression
    if message.operation_property:
        parse_text(
            message.operation_property, "meter.operation_property", maximum=PROPERTY_NAME_MAX
        )
        if aggregation is not Aggregation.UNIQUE_COUNT:
            raise InvalidValue("meter.operation_property", "is for UNIQUE_COUNT only")
    if aggregation is Aggregation.COUNT:
        if name or expression:
            field = "value_property" if name else "value_expression"
            raise InvalidValue(f"meter.{field}", "a count reads no value")
        return
    if not expression:
        parse_text(name, "meter.value_property", maximum=PROPERTY_NAME_MAX)
        return
    if name:
        raise InvalidValue("meter.value_expression", "stands beside a value_property; give one")
    gives = parse_expression(expression, types, "meter.value_expression").gives
    if aggregation is not Aggregation.UNIQUE_COUNT and gives is not Type.NUMBER:
        raise InvalidValue("meter.value_expression", f"gives a {gives.value}, no number")


def _parse_dimensions(message: meter_pb2.Meter) -> tuple[str, ...]:
    if len(message.dimensions) > DIMENSIONS_MAX:
        raise InvalidValue("meter.dimensions", f"more than {DIMENSIONS_MAX}")
    dimensions = tuple(
        parse_text(name, f"meter.dimensions[{index}]", maximum=PROPERTY_NAME_MAX)
        for index, name in enumerate(message.dimensions)
    )
    if len(set(dimensions)) != len(dimensions):
        raise InvalidValue("meter.dimensions", "a property is named twice")
    return dimensions


def _parse_rounding(message: meter_pb2.Meter, aggregation: Aggregation) -> Rounding | None:
    if not message.HasField("rounding"):
        return None
    inner = message.rounding
    mode = parse_member(inner.mode, ROUNDINGS, "meter.rounding.mode")
    of_event = inner.point == meter_pb2.ROUNDING_POINT_EVENT
    if inner.point not in meter_pb2.RoundingPoint.values():
        raise InvalidValue("meter.rounding.point", f"{inner.point} is not known")
    if of_event and aggregation in (Aggregation.COUNT, Aggregation.UNIQUE_COUNT):
        raise InvalidValue("meter.rounding.point", "a count has no values to round")
    if inner.HasField("digits") == bool(inner.step):
        raise InvalidValue("meter.rounding", "needs exactly one of digits and step")
    if inner.step:
        step = Fraction(parse_decimal(inner.step, "meter.rounding.step"))
        if not step:
            raise InvalidValue("meter.rounding.step", "must be more than zero")
        return Rounding(mode, step, of_event)
    if inner.digits not in DIGITS:
        raise InvalidValue("meter.rounding.digits", f"{inner.digits} is not between -12 and 18")
    return Rounding(mode, Fraction(10) ** -inner.digits, of_event)


def _parse_missing(message: meter_pb2.Meter, aggregation: Aggregation) -> Missing:
    missing = parse_member(message.on_missing, MISSING, "meter.on_missing")
    if missing is Missing.ZERO and aggregation is Aggregation.UNIQUE_COUNT:
        raise InvalidValue("meter.on_missing", "a key cannot be zero")
    return missing


def _parse_filter(message: meter_pb2.PropertyFilter, field: str) -> Filter:
    operator = parse_member(message.operator, OPERATORS, f"{field}.operator")
    name = parse_text(message.property, f"{field}.property", maximum=PROPERTY_NAME_MAX)
    values = list(message.values)
    if operator in (FilterOperator.EXISTS, FilterOperator.NOT_EXISTS):
        if values:
            raise InvalidValue(f"{field}.values", f"{operator.name} compares with nothing")
    elif operator in (FilterOperator.IN, FilterOperator.NOT_IN):
        if not 1 <= len(values) <= FILTER_VALUES_MAX:
            raise InvalidValue(f"{field}.values", f"takes 1 to {FILTER_VALUES_MAX} values")
    elif len(values) != 1:
        raise InvalidValue(f"{field}.values", f"{operator.name} compares with one value")
    for index, value in enumerate(values):
        parse_text(value, f"{field}.values[{index}]", minimum=0, maximum=PROPERTY_VALUE_MAX)
        if operator in COMPARISONS:
            parse_decimal(value, f"{field}.values[{index}]", signed=True)
    return Filter(name, operator, frozenset(values))


def render_meter(meter: Meter) -> meter_pb2.Meter:
    """A meter as it is answered."""
    message = meter_pb2.Meter(
        code=meter.code,
        name=meter.name,
        event_name=meter.event_name,
        aggregation=_AGGREGATIONS_OUT[meter.aggregation],
        value_property=meter.value_property,
        filters=[
            meter_pb2.PropertyFilter(
                property=condition.name,
                operator=_OPERATORS_OUT[condition.operator],
                values=sorted(condition.values),
            )
            for condition in meter.filters
        ],
        dimensions=meter.dimensions,
        unit=meter.unit,
        create_time=render_time(meter.create_time),
        archived=meter.until_version is not None,
        value_expression=meter.value_expression,
        filter_expression=meter.filter_expression,
        property_types={name: TYPES_OUT[kind] for name, kind in meter.types},
        operation_property=meter.operation_property,
        carry_over=meter.carries,
        on_missing=_MISSING_OUT[meter.on_missing],
        version=meter.version,
        state=STATES[meter.state],
    )
    if meter.rounding is not None:
        message.rounding.mode = _ROUNDINGS_OUT[meter.rounding.mode]
        message.rounding.step = number_text(meter.rounding.step)
        message.rounding.point = (
            meter_pb2.ROUNDING_POINT_EVENT
            if meter.rounding.of_event
            else meter_pb2.ROUNDING_POINT_PERIOD
        )
    if meter.effective_time is not None:
        message.effective_time.CopyFrom(render_time(meter.effective_time))
    return message
