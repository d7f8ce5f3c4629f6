"""Which cell of a matrix an event belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from rating.price import ANY, Cell, Matrix
from rating.state import UnpricedUsage


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


def cell_name(cell: Cell) -> str:
    """What a cell is called where it has no name of its own."""
    return cell.name or ", ".join(cell.values)


def _exact_count(cell: Cell, wanted: list[str]) -> int:
    """How many values match exactly; −1 where one does not match at all."""
    count = 0
    for value, property_value in zip(cell.values, wanted, strict=True):
        if value == property_value:
            count += 1
        elif value != ANY:
            return -1
    return count
