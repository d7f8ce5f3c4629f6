"""What a benchmark prints: one list of records with stable names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One figure. `ratio` is value ÷ the value of the record named by `reference`."""

    name: str
    value: float
    unit: str
    reference: str | None = None
    ratio: float | None = None


class Records:
    """The figures of one run, in the order in which they were measured."""

    def __init__(self) -> None:
        self._found: dict[str, Record] = {}

    def add(self, name: str, value: float, unit: str, reference: str | None = None) -> None:
        base = self._found.get(reference) if reference else None
        ratio = round(value / base.value, 4) if base and base.value else None
        self._found[name] = Record(name, round(value, 3), unit, reference if base else None, ratio)

    def add_latency(self, name: str, seconds: list[float], reference: str | None = None) -> None:
        """p50 and p99 of a list of durations, as `<name>.p50_ms` and `<name>.p99_ms`."""
        ordered = sorted(seconds)
        for label, position in (("p50", len(ordered) // 2), ("p99", len(ordered) * 99 // 100)):
            value = ordered[min(position, len(ordered) - 1)] * 1_000
            against = f"{reference}.{label}_ms" if reference else None
            self.add(f"{name}.{label}_ms", value, "ms", against)

    def json(self) -> list[dict[str, Any]]:
        return [asdict(record) for record in self._found.values()]
