"""How often a method may be declined, by its card network, before it rests."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.attempt import Attempt, State
from gateway.domain.outcome import DeclineClass
from gateway.domain.payment import (
    CAPS,
    DECLINES_MAX,
    DECLINES_WINDOW,
    Payment,
    PaymentState,
    RetryNotAllowed,
    Source,
    caps_of,
    check_retry,
)
from kernel.money import Amount, Asset

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
METHOD = uuid.UUID(int=7)
AMOUNT = Amount(Asset("USD", 2), 1_250)


def payment() -> Payment:
    """A payment whose one attempt was declined, softly."""
    attempt = Attempt(
        uuid.UUID(int=1), uuid.UUID(int=2), 1, uuid.UUID(int=3), "main", METHOD, AMOUNT,
        State.DECLINED, NOW, NOW, decline_code="do_not_honor", decline_class=DeclineClass.SOFT,
    )  # fmt: skip
    return Payment(
        uuid.UUID(int=2), "ada", AMOUNT, Source("invoice", "INV-1"), "", PaymentState.OPEN, False,
        NOW, (attempt,),
    )  # fmt: skip


def declined(times: int, apart: timedelta) -> list[datetime]:
    """As many declines as that, the last one a minute ago."""
    return [NOW - timedelta(minutes=1) - apart * number for number in range(times)]


def refused(brand: str, times: int, apart: timedelta) -> datetime:
    with pytest.raises(RetryNotAllowed) as caught:
        check_retry(payment(), METHOD, declined(times, apart), NOW, brand)
    return datetime.fromisoformat(caught.value.facts["retry_after"])


@pytest.mark.parametrize("brand", ["visa", "amex", "", "Discover", "a word that nobody knows"])
def test_fifteen_in_thirty_days_where_nothing_else_is_known(brand: str) -> None:
    check_retry(payment(), METHOD, declined(14, timedelta(hours=1)), NOW, brand)
    assert refused(brand, 15, timedelta(hours=1)) > NOW


@pytest.mark.parametrize("brand", ["mastercard", "MasterCard", "mc", "MC", "Master Card"])
def test_one_network_counts_a_day_and_a_month(brand: str) -> None:
    check_retry(payment(), METHOD, declined(9, timedelta(minutes=10)), NOW, brand)
    again = refused(brand, 10, timedelta(minutes=10))
    assert NOW < again <= NOW + timedelta(hours=24)
    check_retry(payment(), METHOD, declined(34, timedelta(hours=20)), NOW, brand)
    assert refused(brand, 35, timedelta(hours=20)) <= NOW + timedelta(days=30)


def test_after_the_time_that_is_told_it_is_allowed() -> None:
    times = declined(15, timedelta(hours=1))
    again = refused("visa", 15, timedelta(hours=1))
    check_retry(payment(), METHOD, times, again, "visa")


def test_as_many_declines_are_read_as_any_cap_counts() -> None:
    caps = [cap for caps in (*CAPS.values(), caps_of("")) for cap in caps]
    assert max(cap.declines for cap in caps) == DECLINES_MAX
    assert max(cap.window for cap in caps) == DECLINES_WINDOW
