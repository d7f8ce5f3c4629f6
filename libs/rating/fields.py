"""Reads the fields of a document one by one; every fault names its path and its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import TypeVar

from kernel.errors import InvalidValue
from kernel.money import format_decimal, parse_decimal
from rating.exact import Number, parse_number

WHOLE_MAX = 2**32 - 1  # what a uint32 of the proto holds

Choice = TypeVar("Choice", bound=Enum)


def prefix_of(choices: type[Enum]) -> str:
    """The prefix that the proto puts before each value of an enum: "TIER_POSITION_"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", choices.__name__).upper() + "_"


class Fields:
    """One mapping of a document. `done` refuses whatever was not read.

    As in proto3, an absent field, null, "" and an enum's UNSPECIFIED all mean: not given.
    """

    def __init__(self, document: object, path: str) -> None:
        if not isinstance(document, Mapping):
            raise InvalidValue(path or "document", "is not an object with named fields")
        self._left: dict[str, object] = {str(name): value for name, value in document.items()}
        self.path = path

    def at(self, name: str) -> str:
        """The full path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str) -> object | None:
        """The raw value of a field, or None where it is not given."""
        value = self._left.pop(name, None)
        return None if value == "" else value

    def given(self, names: Sequence[str]) -> list[str]:
        """Which of these fields are present, in the order asked."""
        return [name for name in names if self._left.get(name) is not None]

    def text(self, name: str, default: str = "") -> str:
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise InvalidValue(self.at(name), "is not a string")
        return value

    def decimal(self, name: str, *, positive: bool = False) -> Decimal | None:
        """An exact decimal that is not negative, and not zero where it must be positive."""
        value = self.take(name)
        if value is None:
            return None
        number = parse_decimal(_digits(value, self.at(name)), self.at(name))
        if positive and number == 0:
            raise InvalidValue(self.at(name), "must be more than zero")
        return number

    def required(self, name: str, *, positive: bool = False) -> Decimal:
        number = self.decimal(name, positive=positive)
        if number is None:
            raise InvalidValue(self.at(name), "is required")
        return number

    def number(self, name: str, *, signed: bool = False) -> Number | None:
        """An exact number: a decimal, or a fraction "n/d"."""
        value = self.take(name)
        if value is None:
            return None
        return parse_number(_digits(value, self.at(name)), self.at(name), signed=signed)

    def whole(self, name: str) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        text = _digits(value, self.at(name))
        if not (text.isascii() and text.isdigit()):
            raise InvalidValue(self.at(name), f"{text!r} is not a whole number")
        if int(text) > WHOLE_MAX:
            raise InvalidValue(self.at(name), f"{text} is more than {WHOLE_MAX}")
        return int(text)

    def flag(self, name: str, default: bool) -> bool:
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidValue(self.at(name), "is neither true nor false")
        return value

    def choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """A member of an enum by its value, with or without the prefix of the proto."""
        return _member(self.take(name), choices, self.at(name))

    def option(self, name: str, choices: type[Choice]) -> Choice:
        """As `choice`, where the first member of the enum is the default."""
        return self.choice(name, choices) or next(iter(choices))

    def choices(self, name: str, choices: type[Choice]) -> list[Choice]:
        """Different members of an enum, by their values as in `choice`."""
        found: list[Choice] = []
        for position, value in enumerate(self.values(name, len(choices))):
            member = _member(value, choices, f"{self.at(name)}[{position}]")
            if member is None or member in found:
                raise InvalidValue(f"{self.at(name)}[{position}]", "is not stated, or twice")
            found.append(member)
        return found

    def inner(self, name: str) -> Fields | None:
        value = self.take(name)
        return None if value is None else Fields(value, self.at(name))

    def items(self, name: str, most: int) -> Iterator[Fields]:
        """Each object of a list, its path carrying its position."""
        for position, value in enumerate(self.values(name, most)):
            yield Fields(value, f"{self.at(name)}[{position}]")

    def values(self, name: str, most: int) -> Sequence[object]:
        value = self.take(name)
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise InvalidValue(self.at(name), "is not a list")
        if len(value) > most:
            raise InvalidValue(self.at(name), f"has {len(value)} entries, more than {most}")
        return value

    def names(self, name: str) -> dict[str, str]:
        """An object of strings."""
        fields = self.inner(name)
        if fields is None:
            return {}
        return {key: _property(value, fields.at(key)) for key, value in fields._left.items()}

    def done(self) -> None:
        for name, value in self._left.items():
            # An empty repeated field or message is how some encoders write "not given".
            if value not in (None, "", [], {}, ()):
                raise InvalidValue(self.at(name), "is not a known field")


def _member(value: object, choices: type[Choice], path: str) -> Choice | None:
    if value is None:
        return None
    if isinstance(value, str):
        plain = value.removeprefix(prefix_of(choices))
        if plain == "UNSPECIFIED":
            return None
        for member in choices:
            if member.value == plain:
                return member
    allowed = ", ".join(str(member.value) for member in choices)
    raise InvalidValue(path, f"{value!r} is not one of {allowed}")


def _digits(value: object, path: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal) and value.is_finite():
        return format_decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise InvalidValue(path, "is a binary float; write it as a string, such as '0.1'")
    raise InvalidValue(path, "is not a decimal number")


def _property(value: object, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return _digits(value, path)
