"""What a price looks at: usage added up, and where its allowances stand. All values are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kernel.errors import Kind, Refusal
from rating.exact import Number


class UnpricedUsage(Refusal):
    """No cell of the matrix matches. The event is to be parked and shown, never given away."""

    reason = "UNPRICED_USAGE"
    kind = Kind.PRECONDITION


@dataclass(frozen=True, slots=True)
class Usage:
    """One event, or a row of events added up (with their number), as far as a price looks at it.

    `quantity` is in units of the meter, `amount` and `cost` in the asset of the price. `window`
    names the window the event falls in; names must sort in the order of time. `time` is when it
    happened, for prices of the time of use.
    """

    quantity: Number = 1
    amount: Number = 0
    cost: Number = 0
    event_count: int = 1
    properties: Mapping[str, str] = field(default_factory=dict)
    window: str = ""
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """A level and the share of the full period for which it stayed."""

    share: Number
    quantity: Number


@dataclass(frozen=True, slots=True)
class State:
    """Usage of one price in one period. The empty state is `State()`.

    A price over one total needs `quantity` alone, so a service may make the state itself from any
    aggregation (maximum, unique count, last value). Whatever depends on single events, cells or
    windows is kept by `advance`.
    """

    quantity: Number = 0
    event_count: int = 0
    amount: Number = 0
    cost: Number = 0
    # Of models that price each event by itself: what the events cost, and without fixed fees.
    event_cost: Number = 0
    event_cost_bare: Number = 0
    # How much of a percentage model's allowances is used up.
    free_event_count: int = 0
    free_amount: Number = 0
    # States by name of window, or by position of matrix cell or slot of time.
    parts: Mapping[str, State] = field(default_factory=dict)
    # Facts about the period, given by the caller.
    share: Number = 1
    levels: tuple[Level, ...] = ()
    rolled_over: Number = 0
    committed: Number | None = None

    @property
    def is_empty(self) -> bool:
        """True where nothing was used, which is when `minimum_at_zero` is asked."""
        return not (self.quantity or self.event_count or self.levels or self.parts)
