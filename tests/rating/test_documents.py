"""Prices, usage and results as documents: the fields of the protobuf messages, and every fault."""

from __future__ import annotations

import ast
import inspect
import json
import re
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st

import rating.document
import rating.price
import rating.request
from kernel.errors import InvalidValue
from kernel.money import RoundingMode
from rating import Price, answer, number_text, parse_price, render_price
from rating.fields import prefix_of
from tests.rating.strategies import claims, level_prices, prices
from tollgate.type.v1 import price_pb2

MESSAGES = price_pb2.DESCRIPTOR.message_types_by_name
ANSWERS = ("RatingResult", "Breakdown", "Component")
# Methods of rating.fields.Fields whose first argument is the name of a field.
READERS = {"take", "text", "decimal", "required", "number", "whole", "flag", "choice", "option"}
READERS |= {"inner", "items", "values", "names", "choices"}
LADDER: dict[str, Any] = {
    "tiers": [
        {
            "over": "0",
            "up_to": "10",
            "unit_price": "1",
            "flat_fee": "2",
            "package_size": "5",
        },
        {"unit_price": "0.5"},
    ],
    "bound": "BOUND_UPPER_EXCLUSIVE",
    "flat_at_zero": "WAIVE",
}


def fields_read(*modules: ModuleType) -> set[str]:
    """Every field name that the parsers ask for."""
    names: set[str] = set()
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in READERS and node.args and isinstance(node.args[0], ast.Constant):
                names.add(str(node.args[0].value))
    return names | set(rating.document.MODELS)


def known(message: Descriptor, name: str) -> bool:
    """Whether the parser of a message's document knows a field of that name."""
    try:
        parse_at(message, {name: object()})
    except InvalidValue as fault:
        if fault.why.startswith("exactly one of"):  # a second model: is it one that may stand here?
            return name in re.findall(r"\w+", fault.why.partition(" is required")[0])
        return not fault.why.startswith("is not a known field")
    return True


def parse_at(message: Descriptor, extra: dict[str, Any]) -> None:
    """Parse a document in which `extra` stands among valid fields of that message."""
    valid: dict[str, Any] = {}
    open_tier = {"flat_fee": "1"}
    match message.name:
        case "Price":
            parse_price({"asset": "USD", "flat": {"amount": "1"}} | extra)
        case "Included":
            valid = {"unlimited": True}
            parse_price({"asset": "USD", "unit": {"unit_price": "1"}, "included": valid | extra})
        case "Tier":
            parse_price({"asset": "USD", "volume": {"tiers": [extra]}})
        case "StairstepTier":
            parse_price({"asset": "USD", "stairstep": {"tiers": [open_tier | extra]}})
        case "PercentageTier":
            parse_price({"asset": "USD", "graduated_percentage": {"tiers": [extra]}})
        case "MatrixCell":
            cell = {"flat": {"amount": "1"}} | extra
            parse_price({"asset": "USD", "matrix": {"dimensions": ["a"], "cells": [cell]}})
        case "TimeSlot":
            always = {"unit": {"unit_price": "1"}}
            slots = [{"start": "08:00", "end": "09:00", "flat": {"amount": "1"}} | extra, always]
            parse_price({"asset": "USD", "time_of_use": {"time_zone": "UTC", "slots": slots}})
        case "RatingRequest":
            answer({"price": {"asset": "USD", "flat": {"amount": "1"}}} | extra)
        case "RatingUsage":
            answer({"price": {"asset": "USD", "flat": {"amount": "1"}}, "usage": extra})
        case "RatingEvent" | "RatingLevel":
            name = "events" if message.name == "RatingEvent" else "levels"
            valid = {"share": "1", "quantity": "1"} if name == "levels" else {}
            usage = {name: [valid | extra]}
            answer({"price": {"asset": "USD", "flat": {"amount": "1"}}, "usage": usage})
        case _:
            parse_price({"asset": "USD", model_key(message): model_body(message) | extra})


def model_key(message: Descriptor) -> str:
    for field in MESSAGES["Price"].oneofs_by_name["model"].fields:
        if field.message_type is message:
            return str(field.name)
    raise AssertionError(f"{message.name} is no model")


def model_body(message: Descriptor) -> dict[str, Any]:
    tiers = [{"flat_fee": "1"}]
    bodies: dict[str, dict[str, Any]] = {
        "FlatModel": {"amount": "1"},
        "UnitModel": {"unit_price": "1"},
        "PackageModel": {"amount": "1", "size": "1"},
        "SeatModel": {"flat": {"amount": "1"}},
        "PercentageModel": {"rate": "1"},
        "MatrixModel": {"dimensions": ["a"], "cells": [{"flat": {"amount": "1"}}]},
        "TimeOfUseModel": {"time_zone": "UTC", "slots": [{"flat": {"amount": "1"}}]},
        "DynamicModel": {},
        "CostPlusModel": {"markup": "1"},
    }
    return bodies.get(message.name, {"tiers": tiers})


DOCUMENTS = [
    message
    for message in MESSAGES.values()
    if message.name not in ANSWERS and not message.GetOptions().map_entry
]


@pytest.mark.parametrize("message", DOCUMENTS, ids=lambda message: message.name)
def test_a_document_knows_the_fields_of_its_message_and_no_other(message: Descriptor) -> None:
    every = fields_read(rating.document, rating.request)
    assert "unit_price" in every
    fields = {field.name for field in message.fields}
    assert {name for name in fields if known(message, name)} == fields
    assert {name for name in every | {"nonsense"} if known(message, name)} == fields


def test_a_result_has_the_fields_of_its_message_and_no_other() -> None:
    request = {
        "price": {"asset": "USD", "volume": LADDER, "accumulate": "WINDOW", "window": "DAY"},
        "usage": {"events": [{"quantity": "5", "window": "2026-01-01"}]},
        "charged": "1",
    }
    result = answer(request)
    assert result.keys() == {field.name for field in MESSAGES["RatingResult"].fields}
    (breakdown,) = result["breakdowns"]
    assert breakdown.keys() == {field.name for field in MESSAGES["Breakdown"].fields}
    components = set().union(*(component.keys() for component in breakdown["components"]))
    assert components == {field.name for field in MESSAGES["Component"].fields}


def test_enum_values_differ_from_those_of_the_proto_by_their_prefix_alone() -> None:
    enums = {
        name: choices
        for name, choices in vars(rating.price).items()
        if isinstance(choices, type) and issubclass(choices, Enum) and choices is not Enum
    } | {"RoundingMode": RoundingMode}
    protos = price_pb2.DESCRIPTOR.enum_types_by_name
    assert set(enums) == set(protos)
    for name, choices in enums.items():
        values = [value.name.removeprefix(prefix_of(choices)) for value in protos[name].values]
        assert values == ["UNSPECIFIED", *(member.value for member in choices)]


@claims
@given(st.one_of(prices(), level_prices()))
def test_a_price_survives_its_document_and_its_message(price: Price) -> None:
    document = render_price(price)
    assert parse_price(json.loads(json.dumps(document))) == price
    message = ParseDict(_prefixed(document, price_pb2.Price.DESCRIPTOR), price_pb2.Price())
    sent = price_pb2.Price.FromString(message.SerializeToString())
    assert parse_price(MessageToDict(sent, preserving_proto_field_name=True)) == price
    full = MessageToDict(
        sent, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert parse_price(full) == price


def _prefixed(document: dict[str, Any], message: Descriptor) -> dict[str, Any]:
    """The document with the proto's full enum names, as `ParseDict` wants them."""
    written: dict[str, Any] = {}
    for name, value in document.items():
        field = message.fields_by_name[name]
        if field.enum_type is not None:
            start = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
            several = isinstance(value, list)
            written[name] = [start + one for one in value] if several else start + value
        elif isinstance(value, dict) and not field.message_type.GetOptions().map_entry:
            written[name] = _prefixed(value, field.message_type)
        elif isinstance(value, list) and field.message_type is not None:
            written[name] = [_prefixed(item, field.message_type) for item in value]
        else:
            written[name] = value
    return written


def tiers(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"asset": "USD", "graduated": {"tiers": list(rows)}}


UNIT = {"asset": "USD", "unit": {"unit_price": "1"}}
FLAT = {"amount": "1"}


def of_time(*slots: dict[str, Any], zone: str = "UTC") -> dict[str, Any]:
    """A price of the time of use."""
    return {"asset": "USD", "time_of_use": {"time_zone": zone, "slots": list(slots)}}


CELL = {"unit": {"unit_price": "1"}}


@pytest.mark.parametrize(
    ("document", "path", "reason"),
    [
        ({"unit": {"unit_price": "1"}}, "asset", "is required"),
        (UNIT | {"asset": "U S"}, "asset", "1 to 32 characters"),
        ({"asset": "USD"}, "model", "exactly one of"),
        ({"asset": "USD", "expression": {}}, "model", "none is"),
        (UNIT | {"flat": {"amount": "1"}}, "model", "flat and unit given"),
        (UNIT | {"surprise": 1}, "surprise", "not a known field"),
        ({"asset": "USD", "unit": {}}, "unit.unit_price", "is required"),
        ({"asset": "USD", "unit": {"unit_price": "1,5"}}, "unit.unit_price", "not a decimal"),
        ({"asset": "USD", "unit": {"unit_price": "1e3"}}, "unit.unit_price", "not a decimal"),
        ({"asset": "USD", "unit": {"unit_price": 0.1}}, "unit.unit_price", "binary float"),
        ({"asset": "USD", "unit": {"unit_price": True}}, "unit.unit_price", "not a decimal"),
        ({"asset": "USD", "unit": {"unit_price": "-1"}}, "unit.unit_price", "is negative"),
        ({"asset": "USD", "unit": {"unit_price": "1" * 21}}, "unit.unit_price", "more than 20"),
        ({"asset": "USD", "unit": 5}, "unit", "is not an object"),
        ({"asset": "USD", "package": {"size": "0", "amount": "1"}}, "package.size", "more than"),
        (tiers(), "graduated.tiers", "at least one"),
        (tiers({"up_to": "5"}), "graduated.tiers[0].up_to", "must be open"),
        (tiers({}, {}), "graduated.tiers[0].up_to", "only the last"),
        (tiers({"up_to": "0"}, {}), "graduated.tiers[0].up_to", "overlap"),
        (tiers({"up_to": "5"}, {"up_to": "9"}, {"up_to": "7"}, {}),
         "graduated.tiers[2].up_to", "7 is not above 9: the tiers overlap"),
        (tiers({"up_to": "5"}, {"over": "4"}), "graduated.tiers[1].over", "overlaps"),
        (tiers({"up_to": "5"}, {"over": "6"}), "graduated.tiers[1].over", "gap"),
        (tiers({"over": "1"}), "graduated.tiers[0].over", "gap"),
        (tiers({"rate": "1"}), "graduated.tiers[0].rate", "not a known field"),
        (tiers(*[{"up_to": str(n)} for n in range(1, 101)], {}), "graduated.tiers", "more than"),
        (tiers({}) | {"graduated": {"tiers": "all"}}, "graduated.tiers", "is not a list"),
        (UNIT | {"divide_by": "0"}, "divide_by", "more than zero"),
        (UNIT | {"on_decrease": "SOMETIMES"}, "on_decrease", "one of REVERSE, HIGH_WATER"),
        (UNIT | {"minimum": "5", "maximum": "4"}, "minimum", "above the maximum"),
        (UNIT | {"minimum_prorated": "yes"}, "minimum_prorated", "neither true nor false"),
        (UNIT | {"accumulate": "WINDOW"}, "window", "is required"),
        (UNIT | {"window": "DAY"}, "window", "only for"),
        (UNIT | {"tier_reset": "DAY"}, "tier_reset", "or longer"),
        (UNIT | {"included": {}}, "included", "exactly one"),
        (UNIT | {"included": {"quantity": "1", "amount": "1"}}, "included", "exactly one"),
        (UNIT | {"included": {"amount": "1", "mode": "LEADING_TIER"}}, "included.mode", "needs a"),
        (UNIT | {"included": {"quantity": "1", "reset": "NEVER"}}, "included.reset", "anew"),
        (UNIT | {"included": {"unlimited": True, "rollover_max": "1"}},
         "included.rollover_max", "only a quantity"),
        (UNIT | {"included": {"quantity": "1", "reset": "DAY"}, "accumulate": "EVENT"},
         "included.reset", "PERIOD only"),
        ({"asset": "USD", "flat": {"amount": "1"}, "included": {"quantity": "1"}},
         "included.quantity", "one total quantity"),
        ({"asset": "USD", "flat": {"amount": "1"}, "accumulate": "EVENT"}, "accumulate", "period"),
        ({"asset": "USD", "percentage": {"rate": "1"}, "accumulate": "EVENT"},
         "accumulate", "by event already"),
        ({"asset": "USD", "percentage": {"rate": "1"}, "divide_by": "2"}, "divide_by", "quantity"),
        ({"asset": "USD", "percentage": {"rate": "1", "free_events": -1}},
         "percentage.free_events", "not a whole number"),
        ({"asset": "USD", "percentage":
          {"rate": "1", "event_amount_min": "2", "event_amount_max": "1"}},
         "percentage.event_amount_min", "is above"),
        ({"asset": "USD", "cost_plus": {}}, "cost_plus", "exactly one"),
        ({"asset": "USD", "cost_plus": {"margin": "1"}}, "cost_plus.margin", "not below 1"),
        ({"asset": "USD", "seat": {"percentage": {"rate": "1"}}}, "seat.model", "percentage given"),
        (of_time({"flat": FLAT}, zone=""), "time_of_use.time_zone", "required"),
        (of_time({"flat": FLAT}, zone="Mars/Base"), "time_of_use.time_zone", "zone"),
        (of_time(), "time_of_use.slots", "must be always"),
        (of_time({"start": "08:00", "end": "20:00", "flat": FLAT}),
         "time_of_use.slots", "must be always"),
        (of_time({"flat": FLAT}, {"flat": FLAT}), "time_of_use.slots[1]", "never reached"),
        (of_time({"start": "8", "end": "20:00", "flat": FLAT}, {"flat": FLAT}),
         "time_of_use.slots[0].start", "no time of the day"),
        (of_time({"start": "08:00", "end": "24:01", "flat": FLAT}, {"flat": FLAT}),
         "time_of_use.slots[0].end", "no time of the day"),
        (of_time({"start": "24:00", "end": "08:00", "flat": FLAT}, {"flat": FLAT}),
         "time_of_use.slots[0].start", "the end of the day"),
        (of_time({"start": "08:00", "flat": FLAT}, {"flat": FLAT}),
         "time_of_use.slots[0].end", "required"),
        (of_time({"start": "08:00", "end": "08:00", "flat": FLAT}, {"flat": FLAT}),
         "time_of_use.slots[0].end", "whole day"),
        (of_time({"weekdays": ["MONDAY", "WEEKDAY_MONDAY"], "flat": FLAT}, {"flat": FLAT}),
         "time_of_use.slots[0].weekdays[1]", "twice"),
        (of_time({"weekdays": ["NODAY"], "flat": FLAT}, {"flat": FLAT}),
         "time_of_use.slots[0].weekdays[0]", "is not one of"),
        ({"asset": "USD", "matrix": {"cells": [CELL]}}, "matrix.dimensions", "required"),
        ({"asset": "USD", "matrix": {"dimensions": ["a", "a"], "cells": [CELL]}},
         "matrix.dimensions", "twice"),
        ({"asset": "USD", "matrix": {"dimensions": ["a"], "cells": []}}, "matrix.cells", "one"),
        ({"asset": "USD", "matrix": {"dimensions": ["a"], "cells": [CELL, CELL]}},
         "matrix.cells[1].values", "same values"),
        ({"asset": "USD",
          "matrix": {"dimensions": ["a"], "cells": [{"values": {"b": "1"}} | CELL]}},
         "matrix.cells[0].values.b", "dimensions"),
        ({"asset": "USD",
          "matrix": {"dimensions": ["a"], "cells": [{"unit": {"unit_price": "x"}}]}},
         "matrix.cells[0].unit.unit_price", "not a decimal"),
    ],
)  # fmt: skip
def test_a_fault_names_its_path_and_its_reason(
    document: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_price(document)
    assert refused.value.field == path
    assert reason in refused.value.why
    with pytest.raises(InvalidValue) as inside:
        parse_price(document, "prices[3]")
    assert inside.value.field == f"prices[3].{path}"


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({}, "price"),
        ({"price": UNIT, "prices": [UNIT]}, "price"),
        ({"price": 3}, "price"),
        ({"prices": [UNIT, {"asset": "USD"}]}, "prices[1].model"),
        ({"price": UNIT, "scale": 19}, "scale"),
        ({"price": UNIT, "usage": {"quantity": "1/0"}}, "usage.quantity"),
        ({"price": UNIT, "usage": {"share": "3/2"}}, "usage.share"),
        ({"price": UNIT, "usage": {"share": "-1/2"}}, "usage.share"),
        ({"price": UNIT, "usage": {"quantity": "1", "events": [{}]}}, "usage.quantity"),
        ({"price": UNIT, "usage": {"events": [{"amount": "x"}]}}, "usage.events[0].amount"),
        ({"price": UNIT, "usage": {"levels": [{"share": "1"}]}}, "usage.levels[0]"),
        ({"prices": [UNIT, UNIT], "charged": "1"}, "charged"),
        (
            {
                "price": {"asset": "USD", "percentage": {"rate": "1"}},
                "usage": {"amount": "1", "event_count": 2},
            },
            "usage.event_count",
        ),
    ],
)
def test_a_faulty_request_names_its_path(request_: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        answer(request_)
    assert refused.value.field == path


def test_an_answer_tells_parts_totals_and_what_is_left_to_charge() -> None:
    thirds = UNIT | {"divide_by": "3", "minimum": "2"}
    request = {"price": thirds, "usage": {"quantity": "5"}, "scale": 2, "charged": "1"}
    (breakdown,) = answer(request)["breakdowns"]
    assert breakdown == {
        "asset": "USD",
        "exact": "5/3",
        "amount": "1.67",
        "atoms": "167",
        "components": [
            {
                "name": "units",
                "over": "0",
                "quantity": "5/3",
                "unit_price": "1",
                "amount": "5/3",
            }
        ],
        "delta": "2/3",
        "delta_atoms": "67",
    }
    closed = answer(request | {"close": True})["breakdowns"][0]
    assert (closed["amount"], closed["delta"]) == ("2", "1")
    down = answer(request | {"rounding_mode": "DOWN"})["breakdowns"][0]
    assert down["amount"] == "1.66"


def test_a_total_sums_rounded_amounts_of_one_asset() -> None:
    third = UNIT | {"divide_by": "3"}
    request = {"prices": [third, third], "usage": {"quantity": "5"}, "scale": 2}
    total = answer(request)["total"]
    assert total == {"asset": "USD", "exact": "10/3", "amount": "3.34", "atoms": "334"}
    other = answer(request | {"prices": [third, third | {"asset": "token"}]})
    assert "total" not in other


@pytest.mark.parametrize(
    ("value", "text"),
    [(Fraction(1, 3), "1/3"), (Fraction(-1, 8), "-0.125"), (Decimal("1.50"), "1.5"), (0, "0"),
     (Fraction(-5, 2), "-2.5"), (10**20, "1" + "0" * 20), (Fraction(1, 500), "0.002")],
)  # fmt: skip
def test_numbers_are_written_exactly(value: Any, text: str) -> None:
    assert number_text(value) == text
