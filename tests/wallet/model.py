"""A small obvious wallet to compare with: one customer, one asset, plain loops, no batches.

It keeps what is free and what is pinned of each grant apart, where the ledger keeps remaining and
held; it has no journal, no truncation, no caches. Amounts are atoms, times are datetimes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from wallet.ledger.domain.values import NEVER, OverCapture

Purpose = tuple[str, str, str]


class No(Exception):
    """The model refuses, with the reason that the ledger must give."""


@dataclass
class ModelGrant:
    name: str
    priority: int
    free: int
    cost: int
    effective: datetime
    expire: datetime
    created: datetime
    number: int
    meters: tuple[str, ...] = ()
    voided: bool = False

    def order(self) -> tuple[object, ...]:
        narrow = 0 if self.meters else 1
        return (
            self.priority,
            narrow,
            self.expire,
            self.cost,
            self.effective,
            self.created,
            self.number,
        )

    def pays(self, purpose: Purpose, now: datetime) -> bool:
        if self.effective > now or self.expire <= now:
            return False
        return not self.meters or purpose[0] in self.meters


@dataclass
class ModelWallet:
    name: str
    priority: int
    mode: str
    floor: int = 0
    meters: tuple[str, ...] = ()
    frozen: bool = False
    debt: int = 0  # owed for what was used
    lent: int = 0  # set aside out of the overdraft by open holds
    grants: list[ModelGrant] = field(default_factory=list)
    last: datetime | None = None

    def funds(self, purpose: Purpose, now: datetime) -> int:
        return sum(g.free for g in self.grants if g.pays(purpose, now))

    def headroom(self) -> int:
        return max(0, self.floor - self.debt - self.lent)

    def burn(self, atoms: int, purpose: Purpose, now: datetime) -> list[tuple[ModelGrant, int]]:
        used = []
        for grant in sorted(self.grants, key=ModelGrant.order):
            part = min(grant.free, atoms) if grant.pays(purpose, now) else 0
            if part:
                grant.free -= part
                atoms -= part
                used.append((grant, part))
        assert atoms == 0
        return used

    def touch(self, now: datetime) -> None:
        for grant in self.grants:
            if grant.expire <= now:
                grant.free = 0
        self.settle(now)

    def settle(self, now: datetime) -> None:
        atoms = min(self.debt, self.funds(("", "", ""), now))
        self.burn(atoms, ("", "", ""), now)
        self.debt -= atoms


@dataclass
class ModelHold:
    name: str
    purpose: Purpose
    wallet: str
    expire: datetime
    state: str = "OPEN"
    atoms: int = 0
    captured: int = 0
    # What is set aside: wallet, grant (None: overdraft), atoms; in the order of pinning.
    pins: list[tuple[ModelWallet, ModelGrant | None, int]] = field(default_factory=list)
    customer: bool = True
    backers: list[ModelWallet] = field(default_factory=list)


@dataclass
class Model:
    wallets: list[ModelWallet] = field(default_factory=list)
    holds: dict[str, ModelHold] = field(default_factory=dict)
    count: int = 0

    def owned(self, name: str = "") -> list[ModelWallet]:
        found = [w for w in self.wallets if name in ("", w.name)]
        return sorted(found, key=lambda w: (w.priority, w.name))

    def payers(self, name: str, purpose: Purpose) -> list[ModelWallet]:
        owned = self.owned(name)
        if name and not owned:
            raise No("NOT_FOUND")
        payers = [w for w in owned if not w.frozen and (not w.meters or purpose[0] in w.meters)]
        if not payers:
            raise No("WALLET_FROZEN" if any(w.frozen for w in owned) else "NO_WALLET")
        return payers

    def available(self, payers: list[ModelWallet], purpose: Purpose, now: datetime) -> int:
        return sum(w.funds(purpose, now) + w.headroom() for w in payers)

    def grant(
        self,
        wallet: str,
        atoms: int,
        now: datetime,
        *,
        priority: int,
        cost: int,
        effective: datetime | None,
        expire: datetime | None,
        meters: tuple[str, ...],
    ) -> tuple[object, ...]:
        found = self.owned(wallet)
        if not found:
            raise No("NOT_FOUND")
        start, stop = effective or now, expire or NEVER
        if stop <= now or stop <= start:
            raise No("INVALID_VALUE")
        (purse,) = found
        purse.touch(now)
        self.count += 1
        made = ModelGrant(
            f"g{self.count}", priority, atoms, cost, start, stop, now, self.count, meters
        )
        purse.grants.append(made)
        purse.settle(now)
        return ("granted", made.free)

    def _find_grant(self, number: int, now: datetime) -> tuple[ModelWallet, ModelGrant, int]:
        """A grant with its wallet, touched, and what open holds pin of it."""
        purse, grant = next((w, g) for w in self.wallets for g in w.grants if g.number == number)
        purse.touch(now)
        pins = [pin for hold in self.holds.values() for pin in hold.pins]
        return purse, grant, sum(part for _, pinned, part in pins if pinned is grant)

    def expiry(self, number: int, now: datetime, expire: datetime | None) -> tuple[object, ...]:
        _, grant, pinned = self._find_grant(number, now)
        if grant.voided or grant.expire <= now:
            raise No("GRANT_ENDED")
        stop = expire or NEVER
        if stop <= now or stop <= grant.effective:
            raise No("INVALID_VALUE")
        grant.expire = stop
        return ("granted", grant.free + pinned)

    def take_back(self, number: int, now: datetime) -> tuple[object, ...]:
        _, grant, pinned = self._find_grant(number, now)
        if grant.voided:
            raise No("GRANT_ENDED")
        if pinned:
            raise No("GRANT_HELD")
        unused, grant.free, grant.voided = grant.free, 0, True
        return ("voided", unused)

    def correct(
        self, wallet: str, atoms: int, now: datetime, *, increase: bool
    ) -> tuple[object, ...]:
        found = self.owned(wallet)
        if not found:
            raise No("NOT_FOUND")
        (purse,) = found
        purse.touch(now)
        if increase:
            self.count += 1
            made = ModelGrant(f"g{self.count}", 50, atoms, 0, now, NEVER, now, self.count)
            purse.grants.append(made)
            purse.settle(now)
        elif purse.funds(("", "", ""), now) < atoms:
            raise No("INSUFFICIENT_FUNDS")
        else:
            purse.burn(atoms, ("", "", ""), now)
        return ("corrected", purse.funds(("", "", ""), now) + purse.headroom())

    def debit(self, wallet: str, atoms: int, purpose: Purpose, now: datetime) -> tuple[object, ...]:
        payers = self.payers(wallet, purpose)
        for purse in payers:
            purse.touch(now)
        short = self._spend(payers, atoms, purpose, now)
        return ("posted", atoms - short, short, self.available(payers, purpose, now))

    def _spend(self, payers: list[ModelWallet], atoms: int, purpose: Purpose, now: datetime) -> int:
        short = max(0, atoms - self.available(payers, purpose, now))
        if short and not any(w.mode == "ALLOW" for w in payers):
            raise No("INSUFFICIENT_FUNDS")
        self._take(payers, atoms - short, purpose, now)
        return short

    def _take(self, payers: list[ModelWallet], atoms: int, purpose: Purpose, now: datetime) -> None:
        for purse in payers:
            part = min(atoms, purse.funds(purpose, now))
            purse.burn(part, purpose, now)
            atoms -= part
        for purse in payers:
            part = min(atoms, purse.headroom())
            purse.debt += part
            atoms -= part
        assert atoms == 0

    def place(
        self,
        name: str,
        wallet: str,
        atoms: int,
        purpose: Purpose,
        now: datetime,
        expire: datetime,
        *,
        partial: bool,
    ) -> tuple[object, ...]:
        known = self.holds.get(name)
        if known is not None:
            raise No("ALREADY_EXISTS" if known.customer else "HOLD_VOIDED_BEFORE")
        payers = self.payers(wallet, purpose)
        for purse in payers:
            purse.touch(now)
        there = min(atoms, self.available(payers, purpose, now))
        allowed = any(w.mode == "ALLOW" for w in payers)
        if there < atoms and not allowed and not (partial and there):
            raise No("INSUFFICIENT_FUNDS")
        hold = self.holds[name] = ModelHold(name, purpose, wallet, expire)
        self._pin(hold, payers, there, now)
        return ("held", there, "OPEN", self.available(payers, purpose, now))

    def increase(
        self, name: str, atoms: int, now: datetime, longer: datetime | None, *, partial: bool
    ) -> tuple[object, ...]:
        hold = self._find_open(name, now)
        payers = self.payers(hold.wallet, hold.purpose)
        for purse in payers:
            purse.touch(now)
        there = min(atoms, self.available(payers, hold.purpose, now))
        allowed = any(w.mode == "ALLOW" for w in payers)
        if there < atoms and not allowed and not (partial and there):
            raise No("INSUFFICIENT_FUNDS")
        self._pin(hold, payers, there, now)
        hold.expire = max(hold.expire, longer or hold.expire)
        return ("held", hold.atoms, "OPEN", self.available(payers, hold.purpose, now))

    def _pin(self, hold: ModelHold, payers: list[ModelWallet], atoms: int, now: datetime) -> None:
        hold.atoms += atoms
        pins: dict[str, list[tuple[ModelWallet, ModelGrant | None, int]]] = {}
        for purse in payers:
            part = min(atoms, purse.funds(hold.purpose, now))
            atoms -= part
            if part:
                used = purse.burn(part, hold.purpose, now)
                pins.setdefault(purse.name, []).extend((purse, g, n) for g, n in used)
        for purse in payers:
            part = min(atoms, purse.headroom())
            atoms -= part
            if part:
                purse.lent += part
                pins.setdefault(purse.name, []).append((purse, None, part))
        for group in pins.values():
            hold.pins += group
            hold.backers.append(group[0][0])

    def _find_open(self, name: str, now: datetime) -> ModelHold:
        hold = self.holds.get(name)
        if hold is None:
            raise No("NOT_FOUND")
        if hold.state == "OPEN" and hold.expire <= now:
            self._release(hold, now)
            hold.state = "EXPIRED"
        if hold.state != "OPEN":
            raise No("HOLD_ENDED")
        return hold

    def _release(self, hold: ModelHold, now: datetime) -> None:
        pins, hold.pins = hold.pins, []
        for purse, grant, atoms in pins:
            if grant is None:
                purse.lent -= atoms
            elif grant.expire > now:
                grant.free += atoms
        for purse in self.owned():
            if any(purse is pinned for pinned, _, _ in pins):
                purse.settle(now)

    def capture(
        self, name: str, atoms: int, now: datetime, *, final: bool, over: OverCapture
    ) -> tuple[object, ...]:
        hold = self._find_open(name, now)
        pinned = sum(part for _, _, part in hold.pins)
        if atoms > pinned and over in (OverCapture.REJECT, OverCapture.UNSTATED):
            raise No("OVER_CAPTURE")
        try:
            payers = self.payers(hold.wallet, hold.purpose)
        except No:
            payers = []
        for purse in payers:
            purse.touch(now)
        left = min(atoms, pinned)
        kept = []
        for purse, grant, held in hold.pins:
            part = min(held, left)
            left -= part
            if grant is None:
                purse.lent -= part
                purse.debt += part
            if held > part:
                kept.append((purse, grant, held - part))
        hold.pins = kept
        short = max(0, atoms - pinned)
        if over in (OverCapture.USE_AVAILABLE, OverCapture.FORCE):
            part = min(short, self.available(payers, hold.purpose, now))
            self._take(payers, part, hold.purpose, now)
            short -= part
        if over is OverCapture.FORCE and short:
            (payers or hold.backers or self.owned())[0].debt += short
            short = 0
        hold.captured += atoms - short
        for purse in self.owned():
            if purse.debt:
                purse.touch(now)
        if final:
            self._release(hold, now)
            hold.state = "CAPTURED"
        return ("posted", atoms - short, short, self.available(payers, hold.purpose, now))

    def void(self, name: str, now: datetime) -> tuple[object, ...]:
        hold = self.holds.get(name)
        if hold is None:
            hold = self.holds[name] = ModelHold(
                name, ("", "", ""), "", now, state="VOIDED", customer=False
            )
        if not hold.customer:
            return ("held", 0, "VOIDED", 0)
        if hold.state != "VOIDED":
            self._find_open(name, now)
            self._release(hold, now)
            hold.state = "VOIDED"
        try:
            payers = self.payers(hold.wallet, hold.purpose)
        except No:
            return ("held", hold.captured, "VOIDED", 0)
        for purse in payers:
            purse.touch(now)
        return ("held", hold.captured, "VOIDED", self.available(payers, hold.purpose, now))
