"""A cap: a limit, what was spent in each slot of its window, and what open holds set aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from wallet.budgets.domain.windows import Slot, Window

LONG_AGO = datetime.min.replace(tzinfo=UTC)
LAST_INSTANT = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Spent:
    """What was spent in one slot, in atoms."""

    slot: Slot
    atoms: int


@dataclass(slots=True, eq=False)
class Cap:
    """A cap with its figures in atoms; guarded by the locks of its customer's wallets.

    What open holds set aside counts in whatever window it is now, and what is debited counts in the
    window of the debit: so a capture never needs more room than its hold had.
    """

    tenant_id: str
    customer_id: str
    node: str
    cap_id: str
    asset: str
    scale: int
    meter: str
    limit: int
    hard: bool
    window: Window
    percents: tuple[int, ...]  # rising
    version: int = 0
    held: int = 0
    slots: list[Spent] = field(default_factory=list)  # oldest first
    told: int = 0  # the highest percentage that was told and is still reached
    refusal_told: datetime = LONG_AGO  # until when a refusal needs no telling again
    create_time: datetime = LONG_AGO
    dirty: bool = False
    _total: int = 0
    _sum_until: datetime = LONG_AGO  # until when the total stands

    def matches(self, asset: str, meter: str) -> bool:
        return self.asset == asset and (not self.meter or self.meter == meter)

    def spent(self, now: datetime) -> int:
        """What was spent in the window that `now` is in."""
        if now >= self._sum_until:
            there = [each for each in self.slots if each.slot.leave > now]
            self._total = sum(each.atoms for each in there)
            self._sum_until = there[0].slot.leave if there else LAST_INSTANT
        return self._total

    def left(self, now: datetime) -> int:
        """How much still fits; below zero where a forced capture or a soft cap went beyond."""
        return self.limit - self.spent(now) - self.held

    def spend(self, atoms: int, now: datetime) -> None:
        """Count what was debited now."""
        slot = self.window.slot_of(now)
        if self.slots and self.slots[-1].slot.start == slot.start:
            self.slots[-1].atoms += atoms
        else:
            self.slots = [each for each in self.slots if each.slot.leave > now]
            self.slots.append(Spent(slot, atoms))
        self._sum_until = LONG_AGO
        self.dirty = True

    def give_back(self, atoms: int, spent_time: datetime) -> None:
        """Take back what was counted at an instant. What has left the window since stays away."""
        for each in self.slots:
            if each.slot.start <= spent_time < each.slot.stop:
                each.atoms -= atoms
                self._sum_until = LONG_AGO
                self.dirty = True
                return

    def hold(self, atoms: int) -> None:
        """Set aside, or let go where it is below zero."""
        self.held += atoms
        self.dirty = True

    def forget_sum(self) -> None:
        """The slots were changed by hand."""
        self._sum_until = LONG_AGO

    def next_leave(self, now: datetime) -> datetime | None:
        """When something spent next leaves the window."""
        times = [s.slot.leave for s in self.slots if s.atoms > 0 and s.slot.leave > now]
        return min(times, default=None)

    def fits_from(self, atoms: int, now: datetime) -> datetime | None:
        """From when so much fits if nothing more is spent; None where time alone does not do it."""
        left = self.left(now)
        for each in self.slots:
            if left >= atoms:
                break
            if each.slot.leave > now:
                left += each.atoms
                if left >= atoms:
                    return each.slot.leave
        return now if left >= atoms else None

    def reached(self, now: datetime) -> int:
        """The highest of its percentages that spending has reached; 0 for none."""
        spent = self.spent(now)
        if spent <= 0:
            return 0
        return max((p for p in self.percents if spent * 100 >= p * self.limit), default=0)
