"""A running tab: one price, one period, many events, charged as they come.

The tab changes in place, because a new frozen state per event would cost more than the rating.
Its `state` and `charged_atoms` are what a service stores between batches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from kernel.money import RoundingMode
from rating.advance import advance_tariff
from rating.cells import cell_of, part_of
from rating.exact import Number, atoms_of
from rating.price import Accumulate, Matrix, OnDecrease, Price, TimeOfUse
from rating.state import State, Usage
from rating.tariff import Tariff, tariff_of


class Tab:
    """Charges events one by one so that all posted atoms equal round(C(state), scale) (RND-3)."""

    def __init__(
        self,
        price: Price,
        scale: int,
        *,
        state: State | None = None,
        charged_atoms: int = 0,
        mode: RoundingMode = RoundingMode.HALF_UP,
    ) -> None:
        begun = state or State()
        self.price = price
        self.charged_atoms = charged_atoms
        self._tariff = tariff_of(price, begun)
        self._column = _column(self._tariff, begun)
        self._scale, self._mode = scale, mode
        self._keeps_high_water = price.on_decrease is OnDecrease.HIGH_WATER

    @property
    def state(self) -> State:
        """The state after all events so far."""
        return self._column.state()

    def add(self, usage: Usage) -> int:
        """Add one event and answer the atoms to post for it; negative where the cost fell.

        Raises what `rating.advance` raises, and then has added nothing.
        """
        return self._post(self._column.add(usage))

    def add_quantity(self, quantity: Number) -> int:
        """The same for an event that has a quantity and nothing else a price could look at."""
        column = self._column
        if isinstance(column, _Total):
            column.quantity += quantity
            column.event_count += 1
            return self._post(column.of_quantity(column.quantity))
        return self._post(column.add(Usage(quantity)))

    def _post(self, numerator: Number) -> int:
        atoms = atoms_of(numerator, self._tariff.unit, self._scale, self._mode)
        delta = atoms - self.charged_atoms
        if delta < 0 and self._keeps_high_water:
            return 0
        self.charged_atoms = atoms
        return delta


class _Column(Protocol):
    """Keeps what a tariff needs to know, and answers the numerator of the cost after an event."""

    def add(self, usage: Usage) -> Number: ...

    def state(self) -> State: ...


def _column(tariff: Tariff, state: State) -> _Column:
    usual = not state.rolled_over and state.committed is None
    if tariff.of_quantity is not None and usual:
        return _Total(tariff, state)
    if tariff.sums_parts:
        return _Parts(tariff, state)
    return _Whole(tariff, state)


class _Sums:
    """The totals that every state has."""

    def __init__(self, state: State) -> None:
        self.quantity = state.quantity
        self.event_count = state.event_count
        self._amount, self._cost = state.amount, state.cost
        self._begun = state

    def grow(self, usage: Usage) -> None:
        self.quantity += usage.quantity
        self.event_count += usage.event_count
        if usage.amount or usage.cost:
            self._amount += usage.amount
            self._cost += usage.cost

    def state(self) -> State:
        return replace(
            self._begun,
            quantity=self.quantity,
            event_count=self.event_count,
            amount=self._amount,
            cost=self._cost,
        )


class _Total(_Sums):
    """A price that depends on one total quantity."""

    def __init__(self, tariff: Tariff, state: State) -> None:
        super().__init__(state)
        assert tariff.of_quantity is not None
        self.of_quantity = tariff.of_quantity

    def add(self, usage: Usage) -> Number:
        self.grow(usage)
        return self.of_quantity(self.quantity)


class _Parts:
    """A price that is the sum of its windows or cells: an event changes one of them."""

    def __init__(self, tariff: Tariff, state: State) -> None:
        self._tariff = tariff
        self._share = state.share
        self._totals = _Sums(state)
        self._columns: dict[str, _Column] = {}
        self._numerators: dict[str, Number] = {}
        self._cell_by_values: dict[tuple[str, ...], int] = {}
        self._sum: Number = 0
        for key, part in state.parts.items():
            inner = self._inner(key)
            self._columns[key] = _column(inner, part)
            numerator = inner.numerator(part) * (tariff.unit // inner.unit)
            self._numerators[key] = numerator
            self._sum += numerator

    def add(self, usage: Usage) -> Number:
        key = self._key(usage)
        inner = self._inner(key)
        column = self._columns.get(key) or _column(inner, State(share=self._share))
        numerator = column.add(usage) * (self._tariff.unit // inner.unit)
        self._columns[key] = column
        self._totals.grow(usage)
        self._sum += numerator - self._numerators.get(key, 0)
        self._numerators[key] = numerator
        most = self._tariff.maximum
        return self._sum if most is None else min(self._sum, most)

    def state(self) -> State:
        parts = {key: column.state() for key, column in self._columns.items()}
        return replace(self._totals.state(), parts=parts)

    def _key(self, usage: Usage) -> str:
        price = self._tariff.price
        if price.accumulate is Accumulate.WINDOW:
            return usage.window
        if isinstance(price.model, TimeOfUse):
            return str(part_of(price.model, usage))
        assert isinstance(price.model, Matrix)
        values = tuple(usage.properties.get(name, "") for name in price.model.dimensions)
        cell = self._cell_by_values.get(values)
        if cell is None:
            cell = cell_of(price.model, usage.properties)
            self._cell_by_values[values] = cell
        return str(cell)

    def _inner(self, key: str) -> Tariff:
        if self._tariff.price.accumulate is Accumulate.WINDOW:
            assert self._tariff.inner is not None
            return self._tariff.inner
        return self._tariff.cells[int(key)]


class _Whole:
    """Any other price: the frozen state is replaced by the next."""

    def __init__(self, tariff: Tariff, state: State) -> None:
        self._tariff, self._state = tariff, state

    def add(self, usage: Usage) -> Number:
        self._state = advance_tariff(self._tariff, self._state, usage)
        return self._tariff.numerator(self._state)

    def state(self) -> State:
        return self._state
