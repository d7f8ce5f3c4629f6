"""What a debit, a hold, a capture does to the caps on the path of its node.

Every cap is guarded by its customer's wallets, all of which a batch has locked, in key order,
before it looks: so budgets need no lock of their own, and no two batches wait for each other over
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeAlias

from kernel.errors import NotFound
from wallet.budgets.domain.caps import LAST_INSTANT, Cap, Spent
from wallet.budgets.domain.refusals import SpendCapReached

# Keys from the root down to the node that spends.
Path: TypeAlias = tuple[str, ...]
NodeName: TypeAlias = tuple[str, str, str]  # tenant, customer, key


class Entry(NamedTuple):
    """One line of the budgets' journal: what an operation spent, and on whose behalf."""

    tenant_id: str
    customer_id: str
    request_id: str
    path: Path
    asset: str
    meter: str
    atoms: int  # moved in the ledger under this key
    shortfall: int  # spent too, though no wallet paid for it
    hold_id: str
    time: datetime


class Spending(NamedTuple):
    """On whose behalf something was spent that is to be given back, and in whose window."""

    customer_id: str
    path: Path
    meter: str
    time: datetime


class Alert(NamedTuple):
    """A cap reached a percentage of its limit, or refused; figures as they were then."""

    cap: Cap
    percent: int
    refused: bool
    spent: int
    held: int
    next_leave: datetime | None


@dataclass(slots=True, eq=False)
class Budgets:
    """The paths and caps that a batch's items name, and what changed in them."""

    paths: dict[NodeName, Path] = field(default_factory=dict)
    caps: dict[NodeName, list[Cap]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    # Holds that were placed for a node: tenant, hold, path.
    placed: list[tuple[str, str, Path]] = field(default_factory=list)

    def changed(self) -> list[Cap]:
        return [cap for caps in self.caps.values() for cap in caps if cap.dirty]

    def claim(self, tenant_id: str, customer_id: str, path: Path, asset: str, meter: str) -> Claim:
        """What applies to spending an asset for a meter on behalf of a path."""
        caps = [
            cap
            for node in path
            for cap in self.caps.get((tenant_id, customer_id, node), ())
            if cap.matches(asset, meter)
        ]
        return Claim(self, tenant_id, customer_id, path, asset, meter, caps)

    def claim_of(
        self, tenant_id: str, customer_id: str, node: str, asset: str, meter: str
    ) -> Claim:
        """The same for a node by its key. Raises NotFound where the customer has no such node."""
        path = self.paths.get((tenant_id, customer_id, node))
        if path is None:
            raise NotFound("node", node)
        return self.claim(tenant_id, customer_id, path, asset, meter)


@dataclass(slots=True, eq=False)
class Claim:
    """A path with the caps that apply to one item; root first."""

    budgets: Budgets
    tenant_id: str
    customer_id: str
    path: Path
    asset: str
    meter: str
    caps: Sequence[Cap]

    def room(self, now: datetime) -> int | None:
        """How much fits every hard cap, never below zero; None where none limits it."""
        hard = [cap.left(now) for cap in self.caps if cap.hard]
        return max(0, min(hard)) if hard else None

    def fit(self, atoms: int, now: datetime, *, partial: bool) -> int:
        """How much of an amount fits every hard cap: all of it, or, where a part will do, what
        there is room for. Raises SpendCapReached."""
        room = self.room(now)
        if room is None or room >= atoms:
            return atoms
        if not room or not partial:
            self.check(atoms, now)
        return room

    def check(self, atoms: int, now: datetime) -> None:
        """Raise SpendCapReached unless it fits every hard cap. Of several that have no room, the
        one that has none for longest is named."""
        failing = [cap for cap in self.caps if cap.hard and cap.left(now) < atoms]
        if not failing:
            return
        for cap in failing:
            self._tell_refusal(cap, now)
        waits = [cap.fits_from(atoms, now) or LAST_INSTANT for cap in failing]
        cap = failing[waits.index(max(waits))]
        raise SpendCapReached(
            node=cap.node,
            cap_id=cap.cap_id,
            asset=cap.asset,
            scale=cap.scale,
            meter=cap.meter,
            limit=cap.limit,
            spent=cap.spent(now),
            held=cap.held,
            needed=atoms,
            reset_time=cap.fits_from(atoms, now),
        )

    def spend(
        self,
        atoms: int,
        now: datetime,
        request_id: str,
        *,
        shortfall: int = 0,
        hold_id: str = "",
    ) -> None:
        """Count what was debited, and write it into the budgets' journal."""
        if not atoms and not shortfall:
            return
        # A clock that fell behind what was counted is held where it was.
        time = max([now, *(cap.slots[-1].slot.start for cap in self.caps if cap.slots)])
        for cap in self.caps:
            cap.told = min(cap.told, cap.reached(time))
            cap.spend(atoms + shortfall, time)
            percent = cap.reached(time)
            if percent > cap.told:
                cap.told = percent
                self._alert(cap, percent, refused=False, now=time)
        self._note(request_id, atoms, shortfall, hold_id, time)

    def hold(self, atoms: int) -> None:
        """Count what is set aside; it counts at once."""
        for cap in self.caps:
            cap.hold(atoms)

    def release(self, atoms: int) -> None:
        """Give back what is set aside no longer, used or not."""
        if atoms:
            for cap in self.caps:
                cap.hold(-atoms)

    def give_back(self, atoms: int, spent_time: datetime, request_id: str) -> None:
        """Take back what was counted at an instant: it was reversed."""
        for cap in self.caps:
            cap.give_back(atoms, spent_time)
        self._note(request_id, -atoms, 0, "", spent_time)

    def _note(
        self, request_id: str, atoms: int, shortfall: int, hold_id: str, time: datetime
    ) -> None:
        self.budgets.entries.append(
            Entry(
                self.tenant_id,
                self.customer_id,
                request_id,
                self.path,
                self.asset,
                self.meter,
                atoms,
                shortfall,
                hold_id,
                time,
            )
        )

    def _tell_refusal(self, cap: Cap, now: datetime) -> None:
        if now < cap.refusal_told:
            return
        cap.refusal_told = cap.window.slot_of(now).stop
        cap.dirty = True
        self._alert(cap, 0, refused=True, now=now)

    def _alert(self, cap: Cap, percent: int, *, refused: bool, now: datetime) -> None:
        self.budgets.alerts.append(
            Alert(cap, percent, refused, cap.spent(now), cap.held, cap.next_leave(now))
        )


class Memory:
    """The budgets of some customers as they were; `restore` puts them back."""

    def __init__(self, budgets: Budgets, customers: Iterable[tuple[str, str]]) -> None:
        wanted = set(customers)
        self._budgets = budgets
        self._caps = [
            (cap, cap.held, [(each.slot, each.atoms) for each in cap.slots], cap.told, cap.dirty)
            for name, caps in budgets.caps.items()
            if name[:2] in wanted
            for cap in caps
        ]
        self._lengths = len(budgets.entries), len(budgets.alerts), len(budgets.placed)

    def restore(self) -> None:
        """Refusals stay told: what refused a member of a group refused it."""
        budgets = self._budgets
        for cap, held, slots, told, dirty in self._caps:
            cap.held, cap.told = held, told
            cap.slots = [Spent(slot, atoms) for slot, atoms in slots]
            cap.forget_sum()
            cap.dirty = dirty
        entries, alerts, placed = self._lengths
        refusals = [alert for alert in budgets.alerts[alerts:] if alert.refused]
        del budgets.entries[entries:], budgets.alerts[alerts:], budgets.placed[placed:]
        budgets.alerts += refusals
        for alert in refusals:
            alert.cap.dirty = True
