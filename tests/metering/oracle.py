"""Every aggregation said once more, as plainly as possible, to hold the service against."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

MICROSECOND = timedelta(microseconds=1)


class Said(NamedTuple):
    """One event: when, in which place of arrival, and what it says."""

    time: datetime
    sequence: int
    value: Fraction
    key: str
    is_added: bool


def usage(
    aggregation: str, carries: bool, events: Sequence[Said], start: datetime, end: datetime
) -> Fraction:
    """What [start, end) comes to, from all events ever."""
    ordered = sorted(events, key=lambda said: (said.time, said.sequence))
    before = [said for said in ordered if said.time < start] if carries else []
    inside = [said for said in ordered if start <= said.time < end]
    match aggregation:
        case "COUNT":
            return Fraction(len(inside))
        case "SUM":
            return sum((said.value for said in [*before, *inside]), Fraction(0))
        case "MAX":
            # Usage is not below nothing, whatever the values say.
            return max([Fraction(0), *[said.value for said in inside]])
        case "LAST":
            return next((said.value for said in reversed([*before, *inside])), Fraction(0))
        case "UNIQUE_COUNT":
            latest = {said.key: said.is_added for said in [*before, *inside]}
            return Fraction(sum(latest.values()))
        case "WEIGHTED_SUM":
            total = Fraction(0)
            for said in [*before, *inside]:
                stayed = (end - max(said.time, start)) // MICROSECOND
                total += said.value * Fraction(stayed, (end - start) // MICROSECOND)
            return total
        case _:
            raise AssertionError(aggregation)
