"""Which cell of a matrix, or which slot of time, an event belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from kernel.errors import InvalidValue
from rating.price import ANY, WEEKDAYS, Cell, Matrix, Model, Slot, TimeOfUse
from rating.state import UnpricedUsage, Usage

DAY_MINUTES = 24 * 60


def parts_of(model: Model) -> Sequence[Cell | Slot]:
    """The parts of a model that price their own usage alone; none where it is one model."""
    if isinstance(model, Matrix):
        return model.cells
    return model.slots if isinstance(model, TimeOfUse) else ()


def part_of(model: Matrix | TimeOfUse, usage: Usage) -> int:
    """The position of the part that an event belongs to. Raises UnpricedUsage, InvalidValue."""
    if isinstance(model, Matrix):
        return cell_of(model, usage.properties)
    if usage.time is None:
        raise InvalidValue("time", "is required: the price depends on the time of use")
    return slot_of(model, usage.time)


def cell_of(matrix: Matrix, properties: Mapping[str, str]) -> int:
    """The position of the cell: most exact values first, then the earliest.

    A property that is missing counts as the empty string. Raises UnpricedUsage where none matches.
    """
    wanted = [properties.get(name, "") for name in matrix.dimensions]
    found, exact_most = -1, -1
    for position, cell in enumerate(matrix.cells):
        exact_count = _exact_count(cell, wanted)
        if exact_count > exact_most:
            found, exact_most = position, exact_count
    if found < 0:
        told = ", ".join(
            f"{name}={value!r}" for name, value in zip(matrix.dimensions, wanted, strict=True)
        )
        raise UnpricedUsage(f"no cell of the price matches {told}", dimensions=told)
    return found


def slot_of(model: TimeOfUse, instant: datetime) -> int:
    """The position of the first slot that an instant is in, by the clocks of the zone."""
    local = instant.astimezone(ZoneInfo(model.time_zone))
    minute, weekday = local.hour * 60 + local.minute, local.weekday()
    for position, slot in enumerate(model.slots):
        if _is_in(slot, weekday, minute):
            return position
    raise AssertionError("the last slot is always")


def _is_in(slot: Slot, weekday: int, minute: int) -> bool:
    start, end = slot.start_minute, slot.end_minute
    day = weekday
    if start is not None and end is not None:
        if start < end:
            if not start <= minute < end:
                return False
        elif minute < end:
            # It began on the day before, and that day's name counts.
            day = (weekday - 1) % len(WEEKDAYS)
        elif minute < start:
            return False
    return not slot.weekdays or WEEKDAYS[day] in slot.weekdays


def part_name(part: Cell | Slot) -> str:
    """What a cell or a slot is called where it has no name of its own."""
    if part.name:
        return part.name
    if isinstance(part, Cell):
        return ", ".join(part.values)
    if part.is_always:
        return "other times"
    days = ", ".join(day.value.title() for day in part.weekdays)
    if part.start_minute is None or part.end_minute is None:
        return days
    hours = f"{clock_text(part.start_minute)} to {clock_text(part.end_minute)}"
    return f"{days} {hours}" if days else hours


def clock_text(minute: int) -> str:
    """A minute of the day as "HH:MM"; the end of the day is "24:00"."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _exact_count(cell: Cell, wanted: list[str]) -> int:
    """How many values match exactly; −1 where one does not match at all."""
    count = 0
    for value, property_value in zip(cell.values, wanted, strict=True):
        if value == property_value:
            count += 1
        elif value != ANY:
            return -1
    return count
