"""Languages of documents: their words, and how they write numbers and dates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from invoicing.documents.domain.words import LINE_PATTERNS, MONTHS, PART_PATTERNS, WORDS
from kernel.money import Amount
from kernel.period import parse_zone
from rating import number_text

LANGUAGES = ("en", "de", "fr", "es", "ja")
MINUS = "−"  # as wide as a digit; a hyphen is too short to be seen in a column
UNIT_PRICE_DIGITS_MIN = 2
_Patterns = Mapping[str, tuple[tuple[re.Pattern[str], str], ...]]
_NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?")


@dataclass(frozen=True)
class Texts:
    """One language. `group` sets thousands apart, `point` is before decimal places."""

    language: str
    group: str
    point: str
    words: Mapping[str, str]

    def say(self, word: str, **values: str) -> str:
        """A word or sentence of the language, with values in it."""
        return self.words[word].format(**values)

    def amount(self, amount: Amount) -> str:
        """With all decimal places of its asset and thousands set apart: "1,234.50"."""
        value = Decimal(abs(amount.atoms)).scaleb(-amount.asset.scale)
        sign = MINUS if amount.atoms < 0 else ""
        return sign + self._written(f"{value:,.{amount.asset.scale}f}")

    def number(self, text: str) -> str:
        """A decimal string with thousands set apart; a fraction "n/d" stays as it is."""
        if not text or "/" in text:
            return text
        sign = MINUS if text.startswith("-") else ""
        whole, point, rest = text.removeprefix("-").partition(".")
        return sign + self._written(f"{int(whole):,}{point}{rest}")

    def percent(self, rate: Decimal) -> str:
        """0.075 reads "7.5%"."""
        return self.say("percent", number=self.number(number_text(Fraction(rate) * 100)))

    def unit_price(self, text: str) -> str:
        """A price with at least two decimal places, and as many more as it has."""
        text = shortened(text)
        if not text:
            return ""
        whole, _, rest = text.partition(".")
        sign = MINUS if text.startswith("-") else ""
        digits = rest.ljust(UNIT_PRICE_DIGITS_MIN, "0")
        return sign + self._written(f"{int(whole.lstrip('-')):,}.{digits}")

    def day(self, instant: datetime, zone: str) -> str:
        """A date as people write it, in the customer's zone: "1 March 2026"."""
        local = instant.astimezone(parse_zone(zone))
        month = MONTHS[self.language][local.month - 1]
        return self.say("day", day=str(local.day), month=month, year=str(local.year))

    def line_name(self, text: str) -> str:
        """A line's name, what billing adds to it said in this language."""
        return self._said(text, LINE_PATTERNS)

    def part_name(self, text: str) -> str:
        """What rating calls a part of a line, in this language."""
        return self._said(text, PART_PATTERNS)

    def _said(self, text: str, patterns: _Patterns) -> str:
        for pattern, said in patterns.get(self.language, ()):
            found = pattern.search(text)
            if found:
                text = text[: found.start()] + self._filled(found, said) + text[found.end() :]
        return text

    def _filled(self, found: re.Match[str], said: str) -> str:
        if not found.groups():
            return said
        value = found.group(1)
        return said.replace(r"\1", self._written(value) if _NUMBER.fullmatch(value) else value)

    def _written(self, english: str) -> str:
        return english.translate({ord(","): self.group, ord("."): self.point})


def shortened(text: str) -> str:
    """A fraction as a decimal of some places: paper is no place for 31 over 7."""
    if "/" not in text:
        return text
    over, _, under = text.partition("/")
    return f"{Decimal(over) / Decimal(under):.6f}"


# A space that does not break stands between thousands in French.
_SIGNS = {"en": (",", "."), "de": (".", ","), "fr": ("\u00a0", ","), "es": (".", ",")}
TEXTS = {
    language: Texts(language, *_SIGNS.get(language, (",", ".")), words=WORDS[language])
    for language in LANGUAGES
}


def texts_of(*languages: str) -> Texts:
    """Of the first language that is stated."""
    return TEXTS[next((one for one in languages if one), "en")]
