"""A price: one model in one asset, and the steps around it. All values are frozen.

Option names are those of the price document; the first member of every enum is its default.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

ANY = "*"  # a matrix value that every property matches
TIERS_MAX = 100  # longer ladders are formulas; a reader could not check them
CELLS_MAX = 1_000
SLOTS_MAX = 100  # a week of different hours for weekdays and weekends has 48
DIMENSIONS_MAX = 10  # as many group-by properties as a meter may have

ZERO = Decimal(0)
ONE = Decimal(1)


class Accumulate(Enum):
    """What is priced as a whole."""

    PERIOD = "PERIOD"
    WINDOW = "WINDOW"
    EVENT = "EVENT"


class WindowUnit(Enum):
    """The length of a window. The caller cuts time; a state only names its windows."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


class DivideRound(Enum):
    """How a divided quantity is rounded to whole units."""

    NONE = "NONE"
    UP = "UP"
    DOWN = "DOWN"
    NEAREST = "NEAREST"


class NegativeQuantity(Enum):
    """What a negative total costs: as zero does, or minus what its opposite costs."""

    CLAMP = "CLAMP"
    MIRROR = "MIRROR"


class IncludedMode(Enum):
    """Whether tiers start after the included units, or those are a free tier in front."""

    SUBTRACT = "SUBTRACT"
    LEADING_TIER = "LEADING_TIER"


class Reset(Enum):
    """When something cumulative starts anew."""

    BILLING_PERIOD = "BILLING_PERIOD"
    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    QUARTER = "QUARTER"
    YEAR = "YEAR"
    TERM = "TERM"
    NEVER = "NEVER"


WINDOW_RESETS = frozenset({Reset.HOUR, Reset.DAY, Reset.WEEK})
TIER_RESETS = frozenset(Reset) - WINDOW_RESETS
INCLUDED_RESETS = frozenset(Reset) - {Reset.NEVER}


class PackageRound(Enum):
    """Whether a begun package counts."""

    UP = "UP"
    DOWN = "DOWN"


class Bound(Enum):
    """Which tier a quantity on a bound belongs to; inclusive because lists say "up to"."""

    UPPER_INCLUSIVE = "UPPER_INCLUSIVE"
    UPPER_EXCLUSIVE = "UPPER_EXCLUSIVE"


class FlatAtZero(Enum):
    """Whether the first tier's flat fee is due without usage."""

    CHARGE = "CHARGE"
    WAIVE = "WAIVE"


class FixedAtZero(Enum):
    """Whether fixed fees stand when the amounts of a period sum to zero."""

    SUPPRESS = "SUPPRESS"
    CHARGE = "CHARGE"


class ZeroQuantity(Enum):
    """What stated amounts cost while the total quantity is zero."""

    FREE = "FREE"
    CHARGE = "CHARGE"


class SeatBasis(Enum):
    """Which level of the period counts."""

    TIME_WEIGHTED = "TIME_WEIGHTED"
    PEAK = "PEAK"
    CLOSING = "CLOSING"


class OnDecrease(Enum):
    """What live charging does when the cost falls as usage grows."""

    REVERSE = "REVERSE"
    HIGH_WATER = "HIGH_WATER"


class MinimumAtZero(Enum):
    """Whether a period without usage owes the minimum."""

    APPLY = "APPLY"
    WAIVE = "WAIVE"


class StubBounds(Enum):
    """Whether bounds, included units and allowances shrink in a short period."""

    FIXED = "FIXED"
    PRORATED = "PRORATED"


class TierPosition(Enum):
    """Where usage stands in the tiers after a price change inside a period."""

    CONTINUE = "CONTINUE"
    RESTART = "RESTART"


class TimeWeighting(Enum):
    """Whether a level counts for the time it stayed. The caller cuts the shares of time."""

    NONE = "NONE"
    SECOND = "SECOND"
    DAY = "DAY"


class VolumeWeighting(Enum):
    """How a volume price weighs a level over time."""

    PERIOD_TIER = "PERIOD_TIER"
    LEVEL_INTEGRAL = "LEVEL_INTEGRAL"


@dataclass(frozen=True, slots=True)
class Tier:
    """A stretch up to a bound. `unit_price` is the rate where amounts are priced."""

    up_to: Decimal | None = None  # None in the last tier
    unit_price: Decimal = ZERO
    flat_fee: Decimal = ZERO
    package_size: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Flat:
    """A fixed fee, times the billed share of the period."""

    amount: Decimal


@dataclass(frozen=True, slots=True)
class Unit:
    """A price for each unit."""

    unit_price: Decimal


@dataclass(frozen=True, slots=True)
class Package:
    """A price for each whole package of units."""

    size: Decimal
    amount: Decimal
    free_units: Decimal = ZERO
    package_round: PackageRound = PackageRound.UP
    packages_min: int = 0


@dataclass(frozen=True, slots=True)
class Tiered:
    """What every ladder of tiers states."""

    tiers: tuple[Tier, ...]
    bound: Bound = Bound.UPPER_INCLUSIVE
    flat_at_zero: FlatAtZero = FlatAtZero.CHARGE


@dataclass(frozen=True, slots=True)
class Graduated(Tiered):
    """Each unit at the price of its own tier, and the flat fee of every tier entered."""


@dataclass(frozen=True, slots=True)
class Volume(Tiered):
    """All units at the price of the tier reached, and that tier's flat fee."""


@dataclass(frozen=True, slots=True)
class Stairstep(Tiered):
    """The flat fee of the tier reached."""


@dataclass(frozen=True, slots=True)
class GraduatedPercentage(Tiered):
    """A share of the sum of amounts, each part at the rate of its own tier."""


@dataclass(frozen=True, slots=True)
class Percentage:
    """A share of each event's amount, with a fixed fee, allowances and bounds per event."""

    rate: Decimal
    fixed_fee: Decimal = ZERO
    free_events: int | None = None
    free_amount: Decimal | None = None
    event_amount_min: Decimal | None = None
    event_amount_max: Decimal | None = None
    fixed_at_zero: FixedAtZero = FixedAtZero.SUPPRESS


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The amounts that the events themselves state."""

    multiplier: Decimal = ONE
    zero_quantity: ZeroQuantity = ZeroQuantity.FREE


@dataclass(frozen=True, slots=True)
class CostPlus:
    """The costs that the events state, × (1 + markup) or ÷ (1 − margin)."""

    markup: Decimal | None = None
    margin: Decimal | None = None


LevelModel = Flat | Unit | Package | Graduated | Volume | Stairstep
CellModel = LevelModel | Percentage | GraduatedPercentage | Dynamic | CostPlus


@dataclass(frozen=True, slots=True)
class Seat:
    """Another model on a level, such as the seats of a subscription."""

    model: LevelModel
    seat_basis: SeatBasis = SeatBasis.TIME_WEIGHTED


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a matrix: its values in the order of the dimensions, and its model."""

    values: tuple[str, ...]
    model: CellModel
    name: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A model per combination of dimension values."""

    dimensions: tuple[str, ...]
    cells: tuple[Cell, ...]


class Weekday(Enum):
    """A day of the week, in the order of `datetime.weekday`."""

    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"


WEEKDAYS = tuple(Weekday)


@dataclass(frozen=True, slots=True)
class Slot:
    """Hours of some days of the week, and the model of what is used in them.

    Minutes are local, from the first up to the second; a slot that ends before it begins ends on
    the next day. No weekdays: every day. No minutes: the whole day.
    """

    model: CellModel
    name: str = ""
    weekdays: tuple[Weekday, ...] = ()
    start_minute: int | None = None
    end_minute: int | None = None

    @property
    def is_always(self) -> bool:
        """Whether every instant is in it."""
        return not self.weekdays and self.start_minute is None


@dataclass(frozen=True, slots=True)
class TimeOfUse:
    """A model per time of use. The first slot that an event's time is in counts; the last one is
    always, so that no usage is without a price."""

    time_zone: str
    slots: tuple[Slot, ...]


Model = CellModel | Seat | Matrix | TimeOfUse


@dataclass(frozen=True, slots=True)
class Included:
    """What is free before the model begins: a quantity, an amount, or everything."""

    quantity: Decimal | None = None
    amount: Decimal | None = None
    unlimited: bool = False
    mode: IncludedMode = IncludedMode.SUBTRACT
    reset: Reset = Reset.BILLING_PERIOD
    rollover_max: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Price:
    """A pricing definition. Ids, meters, intervals and settlement belong to services."""

    asset: str
    model: Model
    accumulate: Accumulate = Accumulate.PERIOD
    window: WindowUnit | None = None
    divide_by: Decimal = ONE
    divide_round: DivideRound = DivideRound.NONE
    negative_quantity: NegativeQuantity = NegativeQuantity.CLAMP
    included: Included | None = None
    overage_multiplier: Decimal = ONE
    minimum: Decimal | None = None
    minimum_prorated: bool = True
    minimum_at_zero: MinimumAtZero = MinimumAtZero.APPLY
    maximum: Decimal | None = None
    on_decrease: OnDecrease = OnDecrease.REVERSE
    tier_reset: Reset = Reset.BILLING_PERIOD
    stub_bounds: StubBounds = StubBounds.FIXED
    tier_position: TierPosition = TierPosition.CONTINUE
    time_weighting: TimeWeighting = TimeWeighting.NONE
    volume_weighting: VolumeWeighting = VolumeWeighting.PERIOD_TIER
