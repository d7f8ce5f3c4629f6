"""Prices of the time of use: slots by the clocks of a zone, worked examples to the last digit."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidValue
from rating import (
    State,
    Tab,
    Usage,
    advance,
    answer,
    cost,
    max_quantity,
    parse_price,
    rate,
    render_price,
)
from rating.cells import slot_of
from rating.price import TimeOfUse
from tests.rating.strategies import claims
from tollgate_cli.rate import rate as rate_command

BERLIN = ZoneInfo("Europe/Berlin")
ELECTRICITY: dict[str, Any] = {
    "asset": "EUR",
    "time_of_use": {
        "time_zone": "Europe/Berlin",
        "slots": [
            {
                "name": "peak",
                "weekdays": ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"],
                "start": "08:00",
                "end": "20:00",
                "unit": {"unit_price": "0.3"},
            },
            {
                "weekdays": ["FRIDAY"],
                "start": "22:00",
                "end": "06:00",
                "unit": {"unit_price": "0.05"},
            },
            {"graduated": {"tiers": [{"up_to": "10", "unit_price": "0.2"}, {"unit_price": "0.1"}]}},
        ],
    },
}
PEAK, FRIDAY_NIGHT, ELSE = 0, 1, 2


def model() -> TimeOfUse:
    found = parse_price(ELECTRICITY).model
    assert isinstance(found, TimeOfUse)
    return found


@pytest.mark.parametrize(
    ("local", "slot"),
    [
        ("2026-01-05 07:59", ELSE),  # a Monday
        ("2026-01-05 08:00", PEAK),
        ("2026-01-05 19:59", PEAK),
        ("2026-01-05 20:00", ELSE),
        ("2026-01-09 21:59", ELSE),
        ("2026-01-09 22:00", FRIDAY_NIGHT),
        ("2026-01-10 05:59", FRIDAY_NIGHT),  # Saturday morning is the night of Friday
        ("2026-01-10 06:00", ELSE),
        ("2026-01-10 12:00", ELSE),
        ("2026-01-09 05:59", ELSE),  # Friday morning is the night of Thursday
        ("2026-07-06 08:00", PEAK),  # in summer time
        ("2026-03-30 08:00", PEAK),  # the Monday after the clocks changed
    ],
)
def test_a_slot_begins_with_its_first_minute_and_ends_before_its_last(
    local: str, slot: int
) -> None:
    instant = datetime.fromisoformat(local).replace(tzinfo=BERLIN).astimezone(UTC)
    assert slot_of(model(), instant) == slot


def test_each_slot_prices_its_own_usage() -> None:
    price = parse_price(ELECTRICITY)
    state, tab, charged = State(), Tab(price, 9), 0
    for local, quantity in (
        ("2026-01-05 09:00", 100),
        ("2026-01-05 21:00", 8),
        ("2026-01-09 23:00", 40),
        ("2026-01-10 01:00", 60),
        ("2026-01-11 12:00", 12),
    ):
        instant = datetime.fromisoformat(local).replace(tzinfo=BERLIN)
        usage = Usage(quantity, time=instant)
        state = advance(price, state, usage)
        charged += tab.add(usage)
    breakdown = rate(price, state)
    told = [(part.group, part.name, part.quantity, part.amount) for part in breakdown.components]
    assert [(group, name, str(float(amount))) for group, name, _, amount in told] == [
        ("peak", "units", "30.0"),
        ("Friday 22:00 to 06:00", "units", "5.0"),
        ("other times", "tier 1", "2.0"),
        ("other times", "tier 2", "1.0"),
    ]
    assert breakdown.cost == cost(price, state) == 38
    assert charged == 38 * 10**9


def test_a_document_comes_back_as_it_was() -> None:
    price = parse_price(ELECTRICITY)
    assert render_price(price) == ELECTRICITY
    assert parse_price(render_price(price)) == price


def test_usage_without_a_time_is_refused() -> None:
    with pytest.raises(InvalidValue) as caught:
        advance(parse_price(ELECTRICITY), State(), Usage(1))
    assert caught.value.field == "time"


def test_how_much_an_amount_buys_depends_on_the_time() -> None:
    price = parse_price(ELECTRICITY)
    peak = Usage(time=datetime(2026, 1, 5, 9, tzinfo=BERLIN))
    night = Usage(time=datetime(2026, 1, 9, 23, tzinfo=BERLIN))
    assert max_quantity(price, State(), 3, usage=peak) == 10
    assert max_quantity(price, State(), 3, usage=night) == 60


@claims
@given(st.integers(0, 366 * 24 * 60))
def test_every_minute_of_a_year_has_exactly_the_slot_that_its_wall_clock_says(minute: int) -> None:
    instant = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    local = instant.astimezone(BERLIN)
    if local.weekday() < 5 and 8 <= local.hour < 20:
        wanted = PEAK
    elif (local.weekday() == 4 and local.hour >= 22) or (local.weekday() == 5 and local.hour < 6):
        wanted = FRIDAY_NIGHT
    else:
        wanted = ELSE
    assert slot_of(model(), instant) == wanted


def test_tollgate_rate_prices_events_by_their_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {
        "price": ELECTRICITY,
        "usage": {
            "events": [
                {"quantity": "100", "time": "2026-01-05T08:00:00Z"},
                {"quantity": "0.5", "time": "2026-01-05T20:00:00+01:00"},
            ]
        },
    }
    content = json.dumps(request).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    rate_command()
    told = json.loads(capsys.readouterr().out)
    assert told["total"]["exact"] == "30.1"
    groups = [part["group"] for part in told["breakdowns"][0]["components"]]
    assert groups == ["peak", "other times"]


@pytest.mark.parametrize("text", ["2026-01-05T08:00:00", "noon"])
def test_a_time_without_an_offset_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        answer({"price": ELECTRICITY, "usage": {"events": [{"time": text}]}})
    assert caught.value.field == "usage.events[0].time"
