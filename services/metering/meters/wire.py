"""Meters between protobuf and the domain."""

from __future__ import annotations

from datetime import datetime

from chassis.wire import parse_member, parse_text, render_time
from kernel.errors import InvalidValue
from metering.meters.domain import (
    CODE_FORM,
    DIMENSIONS_MAX,
    FILTER_VALUES_MAX,
    FILTERS_MAX,
    Aggregation,
    Filter,
    FilterOperator,
    Meter,
)
from tollgate.metering.v1 import meter_pb2

PROPERTY_NAME_MAX = 64
PROPERTY_VALUE_MAX = 512

AGGREGATIONS = {
    meter_pb2.AGGREGATION_COUNT: Aggregation.COUNT,
    meter_pb2.AGGREGATION_SUM: Aggregation.SUM,
    meter_pb2.AGGREGATION_MAX: Aggregation.MAX,
}
OPERATORS = {
    meter_pb2.FILTER_OPERATOR_IN: FilterOperator.IN,
    meter_pb2.FILTER_OPERATOR_NOT_IN: FilterOperator.NOT_IN,
    meter_pb2.FILTER_OPERATOR_EXISTS: FilterOperator.EXISTS,
}
_AGGREGATIONS_OUT = {domain: wire for wire, domain in AGGREGATIONS.items()}
_OPERATORS_OUT = {domain: wire for wire, domain in OPERATORS.items()}


def parse_code(text: str, field: str) -> str:
    """The code of a meter: 1 to 64 characters of [A-Za-z0-9_.-]."""
    return parse_text(text, field, maximum=64, pattern=CODE_FORM)


def parse_meter(message: meter_pb2.Meter, now: datetime) -> Meter:
    """A meter to be created; raises InvalidValue naming the field."""
    aggregation = parse_member(message.aggregation, AGGREGATIONS, "meter.aggregation")
    value_property = message.value_property
    if aggregation is Aggregation.COUNT:
        if value_property:
            raise InvalidValue("meter.value_property", "a count reads no value")
    else:
        parse_text(value_property, "meter.value_property", maximum=PROPERTY_NAME_MAX)
    if len(message.dimensions) > DIMENSIONS_MAX:
        raise InvalidValue("meter.dimensions", f"more than {DIMENSIONS_MAX}")
    dimensions = tuple(
        parse_text(name, f"meter.dimensions[{index}]", maximum=PROPERTY_NAME_MAX)
        for index, name in enumerate(message.dimensions)
    )
    if len(set(dimensions)) != len(dimensions):
        raise InvalidValue("meter.dimensions", "a property is named twice")
    if len(message.filters) > FILTERS_MAX:
        raise InvalidValue("meter.filters", f"more than {FILTERS_MAX}")
    return Meter(
        code=parse_code(message.code, "meter.code"),
        name=parse_text(message.name, "meter.name", minimum=0),
        event_name=parse_text(message.event_name, "meter.event_name", maximum=128),
        aggregation=aggregation,
        value_property=value_property,
        filters=tuple(
            _parse_filter(inner, f"meter.filters[{index}]")
            for index, inner in enumerate(message.filters)
        ),
        dimensions=dimensions,
        unit=parse_text(message.unit, "meter.unit", minimum=0, maximum=32),
        create_time=now,
    )


def _parse_filter(message: meter_pb2.PropertyFilter, field: str) -> Filter:
    operator = parse_member(message.operator, OPERATORS, f"{field}.operator")
    name = parse_text(message.property, f"{field}.property", maximum=PROPERTY_NAME_MAX)
    values = list(message.values)
    if operator is FilterOperator.EXISTS:
        if values:
            raise InvalidValue(f"{field}.values", "EXISTS compares with nothing")
    elif not 1 <= len(values) <= FILTER_VALUES_MAX:
        raise InvalidValue(f"{field}.values", f"takes 1 to {FILTER_VALUES_MAX} values")
    for index, value in enumerate(values):
        parse_text(value, f"{field}.values[{index}]", minimum=0, maximum=PROPERTY_VALUE_MAX)
    return Filter(name, operator, frozenset(values))


def render_meter(meter: Meter) -> meter_pb2.Meter:
    """A meter as it is answered."""
    return meter_pb2.Meter(
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
    )
