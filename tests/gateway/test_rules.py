"""Currencies, card data, retries and the asking of questions, without I/O."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.attempt import State
from gateway.domain.card_data import SCRUBBED, holds_card_data, passes_luhn, scrub
from gateway.domain.currency import AmountNotRepresentable, collectable, to_provider_units
from gateway.domain.provider_account import Capabilities, Idempotency, Lookup
from gateway.domain.resolution import (
    ASK_AFTER,
    Asking,
    Question,
    absence_is_proof,
    after_empty_find,
    before_sending,
    entering,
    questions,
    scheduled,
)
from gateway.providers.registry import check_endpoint, origin_of
from gateway.providers.sandbox import PROVIDER
from kernel.currency import MINOR_DIGITS
from kernel.errors import InvalidValue
from kernel.money import Amount, Asset

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CARDS = ["4242424242424242", "5555555555554444", "378282246310005", "6011111111111117"]


# --- currencies -----------------------------------------------------------------------------------


@given(st.sampled_from(sorted(MINOR_DIGITS)), st.integers(1, 10**12))
def test_every_currency_takes_its_own_minor_units_and_nothing_finer(code: str, units: int) -> None:
    digits = MINOR_DIGITS[code]
    amount = Amount(Asset(code, digits), units)
    assert collectable(code, amount.value) == amount
    finer = Amount(Asset(code, digits + 1), units * 10 + 1)
    with pytest.raises(AmountNotRepresentable):
        collectable(code, finer.value)


@pytest.mark.parametrize("value", ["0", "0.00", "-1", "1e3", "", "NaN", "1_000", " 1", "٣"])
def test_what_is_no_amount_above_zero_is_refused(value: str) -> None:
    with pytest.raises(InvalidValue):
        collectable("USD", value)


@pytest.mark.parametrize("code", ["token", "usd", "XAU", "XXX", ""])
def test_what_is_no_currency_is_refused(code: str) -> None:
    with pytest.raises(InvalidValue):
        collectable(code, "1")


def test_a_providers_own_minor_unit_is_met_exactly_or_not_at_all() -> None:
    yen, dinar = Amount(Asset("JPY", 0), 5), Amount(Asset("KWD", 3), 1_230)
    assert to_provider_units(yen, 2) == 500
    assert to_provider_units(dinar, 2) == 123
    with pytest.raises(AmountNotRepresentable):
        to_provider_units(Amount(Asset("KWD", 3), 1_234), 2)


# --- card data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize(
    "form", ["{}", "tok_{}", "pay with {} please", '{{"number":"{}"}}', "+{}", "a{}b"]
)
def test_card_numbers_are_found_in_whatever_they_are_wrapped(card: str, form: str) -> None:
    text = form.format(card)
    assert holds_card_data(text)
    assert card not in scrub(text)
    assert SCRUBBED in scrub(text)


@pytest.mark.parametrize(
    "text",
    [
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "3782 822463 10005",
        "４２４２４２４２４２４２４２４２",
    ],
)
def test_card_numbers_are_found_as_people_write_them(text: str) -> None:
    assert holds_card_data(text)
    assert scrub(text) == SCRUBBED


@given(st.text(), st.integers(0, 10**19 - 1), st.text())
def test_scrubbing_leaves_no_card_number_and_nothing_else_is_lost(
    before: str, number: int, after: str
) -> None:
    text = f"{before}{number}{after}"
    assert not holds_card_data(scrub(text))
    if not holds_card_data(text):
        assert scrub(text) == text


@given(st.uuids())
@example(uuid.UUID("a4242424242424242fbcdefabcdefabc"))
def test_an_identifier_is_no_card_number(identifier: uuid.UUID) -> None:
    """Chance puts a number that passes Luhn into one of a few hundred."""
    for text in (f"customer-{identifier}", identifier.hex, f"pay_{identifier.hex}:1"):
        if identifier.hex.isdecimal():
            continue  # only digits, as one in a few million is
        assert not holds_card_data(text)
        assert scrub(text) == text


def test_a_card_number_beside_an_identifier_is_found() -> None:
    identifier = uuid.UUID("a4242424242424242fbcdefabcdefabc")
    text = f"{identifier.hex} paid with 4242424242424242, see {identifier}"
    assert holds_card_data(text)
    assert scrub(text) == f"{identifier.hex} paid with {SCRUBBED}, see {identifier}"


@given(st.integers(10**12, 10**18 - 1))
def test_exactly_one_check_digit_makes_a_number_a_card_number(body: int) -> None:
    assert sum(passes_luhn(f"{body}{digit}") for digit in range(10)) == 1


# --- asking ---------------------------------------------------------------------------------------

ABLE = Capabilities(
    off_session=True,
    read_by_id=True,
    idempotency=Idempotency.KEY,
    key_window=timedelta(hours=24),
    lookup=Lookup.CONSISTENT,
    visibility=timedelta(seconds=60),
)
ASKING = Asking(start_time=NOW, sent_time=NOW, ask_time=NOW)


def offered(
    capabilities: Capabilities = ABLE,
    state: State = State.UNKNOWN,
    age: timedelta = timedelta(0),
    *,
    has_id: bool = True,
    wanted: bool = True,
) -> tuple[Question, ...]:
    return questions(
        state, capabilities, ASKING, has_provider_id=has_id, wanted=wanted, now=NOW + age
    )


def test_a_replay_comes_first_then_a_read_then_a_find() -> None:
    assert offered() == (Question.REPLAY, Question.READ, Question.FIND)


@pytest.mark.parametrize("state", [each for each in State if each is not State.UNKNOWN])
def test_nothing_but_an_unknown_outcome_is_replayed(state: State) -> None:
    assert Question.REPLAY not in offered(state=state)


def test_a_replay_that_could_charge_for_the_first_time_is_never_sent() -> None:
    assert Question.REPLAY not in offered(wanted=False)
    assert Question.REPLAY in offered(age=timedelta(hours=23, minutes=49))
    assert Question.REPLAY not in offered(age=timedelta(hours=23, minutes=50))
    for idempotency in (Idempotency.NONE, Idempotency.REFERENCE):
        assert Question.REPLAY not in offered(replace(ABLE, idempotency=idempotency))


def test_what_is_not_declared_is_never_asked() -> None:
    assert Question.READ not in offered(has_id=False)
    assert Question.READ not in offered(replace(ABLE, read_by_id=False))
    assert Question.FIND not in offered(replace(ABLE, lookup=Lookup.NONE))


@given(st.lists(st.integers(0, 3_600), min_size=1, max_size=8))
def test_absence_is_proved_by_two_empty_finds_quarter_of_an_hour_apart(gaps: list[int]) -> None:
    asking, now, proved_at = ASKING, NOW, None
    finds = []
    for gap in gaps:
        now += timedelta(seconds=gap)
        if absence_is_proof(asking, ABLE, now):
            proved_at = now
            break
        asking = after_empty_find(asking, ABLE, now)
        finds.append(now)
    if proved_at is not None:
        counted = [each for each in finds if each - NOW >= ABLE.visibility]
        assert proved_at - counted[0] >= timedelta(minutes=15)


def test_sending_again_makes_earlier_empty_finds_worthless() -> None:
    asking = after_empty_find(ASKING, ABLE, NOW + timedelta(minutes=2))
    later = NOW + timedelta(minutes=20)
    assert absence_is_proof(asking, ABLE, later)
    assert not absence_is_proof(before_sending(asking, later), ABLE, later)


def test_questions_thin_out_and_start_anew_when_the_outcome_gets_lost() -> None:
    asking = ASKING
    waits = []
    for _ in range(len(ASK_AFTER) + 2):
        asking = scheduled(asking, NOW)
        waits.append(asking.ask_time - NOW)
    assert tuple(waits[: len(ASK_AFTER)]) == ASK_AFTER
    assert set(waits[len(ASK_AFTER) :]) == {ASK_AFTER[-1]}
    lost = scheduled(entering(asking, State.UNKNOWN, NOW), NOW)
    assert lost.ask_time - NOW == ASK_AFTER[0]


def test_after_three_days_people_look() -> None:
    lost = entering(ASKING, State.UNKNOWN, NOW)
    assert not scheduled(lost, NOW + timedelta(hours=71)).handed_over
    assert scheduled(lost, NOW + timedelta(hours=72)).handed_over


# --- where calls may go ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254/",
        "http://127.0.0.1:8401",
        "https://127.0.0.1:8400",
        "http://127.0.0.1:8400@evil.example/",
        "file:///etc/passwd",
        "127.0.0.1:8400",
        "http://127.0.0.1:99999",
    ],
)
def test_an_endpoint_leads_nowhere_but_to_its_provider(endpoint: str) -> None:
    with pytest.raises(InvalidValue):
        check_endpoint(PROVIDER, "http://127.0.0.1:8400", endpoint)


def test_an_endpoint_of_the_provider_is_taken() -> None:
    check_endpoint(PROVIDER, "http://127.0.0.1:8400", "http://127.0.0.1:8400/?without=lookup")
    check_endpoint(PROVIDER, "http://127.0.0.1:8400", "")
    with pytest.raises(InvalidValue):
        check_endpoint(PROVIDER, "", "")
    assert origin_of("https://API.example") == "https://api.example:443"
