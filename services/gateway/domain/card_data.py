"""Card numbers have no place here: found, refused and scrubbed wherever one turns up.

A card number is 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1), written together or in
the groups that people write them in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from kernel.errors import Kind, Refusal

SCRUBBED = "[card number removed]"

# Together: a run of exactly 13 to 19 digits, whatever stands beside it ("tok_4242…" counts).
_TOGETHER = re.compile(r"(?<!\d)\d{13,19}(?!\d)")
# Grouped 4-4-4-4(-3) or 4-6-5. Letters beside a group mean an identifier such as a UUID.
_GROUPED = re.compile(
    r"(?<![0-9A-Za-z])"
    r"(?:\d{4}([ \-.])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|\d{4}([ \-.])\d{6}\2\d{5})"
    r"(?![0-9A-Za-z])"
)
# A UUID or a hash written in hexadecimal: chance puts 13 digits that pass Luhn into one of a few
# hundred, and nobody writes a card number between letters.
_IDENTIFIER = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9-]*[a-fA-F])"
    r"(?:[0-9a-fA-F]{32,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
    r"(?![0-9A-Za-z])"
)


class CardDataRefused(Refusal):
    """A field holds what reads as a card number. The number is not repeated, nor logged."""

    reason = "CARD_DATA_REFUSED"
    kind = Kind.INVALID

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} holds a card number; send the provider's token", field=field)


def passes_luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit)
        if position % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def holds_card_data(text: str) -> bool:
    """Whether some part of a text reads as a card number."""
    plain = _IDENTIFIER.sub("#", _plain(text))
    return any(
        _is_card(found[0]) for form in (_TOGETHER, _GROUPED) for found in form.finditer(plain)
    )


def refuse_card_data(fields: Mapping[str, str]) -> None:
    """Raise CardDataRefused for the first field, by name, that holds a card number."""
    for field, text in fields.items():
        if holds_card_data(text):
            raise CardDataRefused(field)


def refuse_card_number(token: str, *, numbers: bool) -> None:
    """Raise CardDataRefused where a provider's token reads as a card number.

    Some providers' tokens are numbers of sixteen digits (`numbers`), of which chance makes one in
    ten pass Luhn. Of those, only such are refused as begin like a card of a payment network does
    (ISO/IEC 7812-1: 2 to 6); elsewhere nothing that reads as a card number is taken.
    """
    bare = token.isascii() and token.isdigit()
    if numbers and bare and token[0] not in "23456":
        return
    if holds_card_data(token):
        raise CardDataRefused("provider_token")


def scrub(text: str, known: frozenset[str] = frozenset()) -> str:
    """The text with every card number in it replaced; the same text where there is none.

    `known` are ids of providers' objects, of which some read as card numbers and are none.
    """
    if not holds_card_data(text):
        return text
    plain = _plain(text)
    identifiers = [*_IDENTIFIER.findall(plain), ""]
    parts = [_scrub_part(part, known) for part in _IDENTIFIER.split(plain)]
    return "".join(part + kept for part, kept in zip(parts, identifiers, strict=True))


def _scrub_part(part: str, known: frozenset[str]) -> str:
    for form in (_TOGETHER, _GROUPED):
        part = form.sub(
            lambda found: SCRUBBED if _is_card(found[0]) and found[0] not in known else found[0],
            part,
        )
    return part


def _is_card(written: str) -> bool:
    digits = re.sub(r"\D", "", written)
    return 13 <= len(digits) <= 19 and passes_luhn(digits)


def _plain(text: str) -> str:
    # Full-width and other scripts' digits are digits to a person who reads them.
    if text.isascii():
        return text
    return "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character
        for character in text
    )
