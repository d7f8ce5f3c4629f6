"""Tokens that are numbers: taken where a provider has such, and never a card's number elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.card_data import CardDataRefused, passes_luhn, refuse_card_number
from gateway.providers.registry import PROVIDERS

CARDS = ["4242424242424242", "5555555555554444", "378282246310005", "2223003122003222"]


@settings(deadline=None)
@given(st.text("0123456789", min_size=15, max_size=15), st.sampled_from("01789"))
def test_a_number_of_a_providers_own_is_taken(rest: str, first: str) -> None:
    refuse_card_number(first + rest, numbers=True)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("numbers", [True, False])
def test_a_cards_number_is_refused_everywhere(card: str, numbers: bool) -> None:
    with pytest.raises(CardDataRefused):
        refuse_card_number(card, numbers=numbers)
    with pytest.raises(CardDataRefused):
        refuse_card_number(f"tok_{card}", numbers=numbers)


def test_a_number_is_a_cards_where_tokens_are_none() -> None:
    token = next(text for n in range(100) if passes_luhn(text := f"84157184151728{n:02}"))
    refuse_card_number(token, numbers=True)
    with pytest.raises(CardDataRefused):
        refuse_card_number(token, numbers=False)


def test_one_provider_has_numbers_for_tokens() -> None:
    assert [name for name, each in PROVIDERS.items() if each.numeric_tokens] == ["adyen"]
