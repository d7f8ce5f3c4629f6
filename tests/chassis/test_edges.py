"""Pages and parsers: what goes in comes out, and what is bent is refused by its field's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from chassis.auth import make_api_key, parse_api_key
from chassis.call import Environment
from chassis.paging import next_token, parse_page
from chassis.refusals import CredentialRefused
from chassis.wire import (
    parse_amount,
    parse_count,
    parse_text,
    parse_uuid,
    read_time,
    render_amount,
    render_time,
)
from kernel.errors import InvalidValue
from kernel.ids import new_id
from kernel.money import Amount as Exact
from kernel.money import Asset
from tollgate.type.v1.amount_pb2 import Amount

keys = st.lists(st.text(max_size=40), min_size=1, max_size=4)
instants = st.datetimes(datetime(1970, 1, 2), datetime(8999, 1, 1)).map(
    lambda instant: instant.replace(tzinfo=UTC)
)


@given(keys)
def test_a_page_token_brings_its_key_back(key: list[str]) -> None:
    assert parse_page(0, next_token(*key)).after == tuple(key)


@given(keys, st.data())
def test_a_page_token_with_any_character_changed_is_refused(
    key: list[str], data: st.DataObject
) -> None:
    token = next_token(*key)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("AZaz09-_!"))
    bent = token[:place] + other + token[place + 1 :]
    try:
        after = parse_page(0, bent).after
    except InvalidValue as refused:
        named = refused.field
    else:
        assert after == tuple(key)  # only padding bits of the last character
        return
    assert named == "page_token"


@given(st.text(max_size=100))
def test_no_text_breaks_the_token_reader(text: str) -> None:
    if text:
        with pytest.raises(InvalidValue):
            parse_page(0, text)


def test_a_page_is_bounded() -> None:
    assert parse_page(0, "").size == 50
    assert parse_page(1000, "").size == 1000
    for size in (-1, 1001):
        with pytest.raises(InvalidValue, match="page_size"):
            parse_page(size, "")


@given(instants)
def test_a_time_comes_back_to_the_microsecond(instant: datetime) -> None:
    assert read_time(render_time(instant), "time") == instant


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_every_timestamp_is_a_time_or_a_refusal(seconds: int, nanos: int) -> None:
    try:
        instant = read_time(Timestamp(seconds=seconds, nanos=nanos), "time")
    except InvalidValue as refused:
        named = refused.field
    else:
        # Whatever is let in leaves room to add a period to it.
        assert instant + timedelta(days=300 * 365) > instant
        return
    assert named == "time"


@given(st.integers(0, 10**20 - 1), st.integers(0, 18))
def test_an_amount_comes_back_exactly(atoms: int, scale: int) -> None:
    exact = Exact(Asset("USD", scale), atoms)
    assert parse_amount(render_amount(exact), lambda code: scale) == exact


def test_each_parser_names_its_field() -> None:
    def refuse(code: str) -> int:
        raise InvalidValue("asset", f"no {code}")

    for field, parse in {
        "name": lambda: parse_text("", "name"),
        "note": lambda: parse_text("a\nb", "note"),
        "wallet_id": lambda: parse_uuid("0" * 36, "wallet_id"),
        "count": lambda: parse_count(7, "count", minimum=1, maximum=6),
        "limit.asset": lambda: parse_amount(Amount(asset="U S"), refuse, "limit"),
        "limit.value": lambda: parse_amount(Amount(asset="X", value="1.5"), lambda _: 0, "limit"),
    }.items():
        with pytest.raises(InvalidValue) as caught:
            parse()
        assert caught.value.field == field


@given(st.sampled_from(Environment), st.integers(0, 2**74 - 1), st.data())
def test_a_mistyped_key_is_known_to_be_wrong_without_asking(
    environment: Environment, randomness: int, data: st.DataObject
) -> None:
    key_id = new_id(datetime(2026, 1, 1, tzinfo=UTC), randomness)
    key = make_api_key(environment, key_id)
    read = parse_api_key(key)
    assert (read.environment, read.key_id, len(read.secret)) == (environment, key_id, 43)
    place = data.draw(st.integers(0, len(key) - 1))
    other = data.draw(st.sampled_from("abcXYZ0189_-"))
    if other != key[place]:
        with pytest.raises(CredentialRefused):
            parse_api_key(key[:place] + other + key[place + 1 :])
