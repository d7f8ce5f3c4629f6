"""One customer with three wallets, operations on it, and the comparison of ledger and model."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID, uuid5

from hypothesis import strategies as st

from tests.wallet.model import Model, ModelWallet, No
from wallet.ledger.domain.answers import Corrected, Voided
from wallet.ledger.domain.batch import Bundle
from wallet.ledger.domain.items import (
    CaptureItem,
    ChangeExpiryItem,
    CorrectItem,
    DebitItem,
    GrantItem,
    HoldItem,
    IncreaseItem,
    Operation,
    VoidGrantItem,
    VoidItem,
)
from wallet.ledger.domain.outcomes import Granted, Held, Outcome, Posted, Refused
from wallet.ledger.domain.values import NEVER, Account, OverCapture

START = datetime(2026, 1, 5, tzinfo=UTC)
CUSTOMER, ASSET, SCALE = "c1", "USD", 2
NAMES = UUID("5f0c6a3e-4b0f-4d5c-9c63-0a52c5b1d1aa")
PURPOSES = [("", "", ""), ("m1", "", ""), ("m2", "f1", "p1")]
WALLETS = 3

# What each wallet of the world is: priority, behaviour, floor, meters.
Shape = tuple[int, str, int, tuple[str, ...]]

shapes = st.lists(
    st.tuples(
        st.sampled_from([10, 50]),
        st.sampled_from(["BLOCK", "BLOCK", "OVERDRAFT", "ALLOW"]),
        st.sampled_from([20, 60]),
        st.sampled_from([(), (), ("m1",)]),
    ),
    min_size=1,
    max_size=WALLETS,
)

_atoms = st.integers(1, 80)
_wallet = st.sampled_from(
    [-1, -1, -1, -1, -1, -1, 0, 0, 0, 1, 1, 2, 3]
)  # -1: any; 3: there is none
# A hold by its age: 0 is the one placed last, -1 the one that will be placed next.
_hold = st.sampled_from([0, 0, 0, 0, 1, 1, 1, 2, 3, -1])
# Few instants, so that things fall due together and exactly when somebody looks.
_seconds = st.sampled_from([None, None, None, None, -10, 10, 20, 30])
waits = st.sampled_from([10, 10, 20, 30])
_grants = st.tuples(
    st.just("grant"),
    st.sampled_from([0, 0, 0, 0, 1, 1, 1, 2, 2, 3]),
    st.integers(1, 150),
    st.sampled_from([10, 50]),
    st.sampled_from([0, 1]),
    _seconds,
    _seconds,
    st.sampled_from([(), (), (), ("m1",), ("m2",)]),
)
_debits = st.tuples(st.just("debit"), _wallet, _atoms, st.sampled_from(PURPOSES))
_places = st.tuples(
    st.just("place"),
    st.sampled_from([-1] * 9 + [0]),
    _wallet,
    _atoms,
    st.sampled_from(PURPOSES),
    st.sampled_from([10, 20, 20, 30, 60]),
    st.booleans(),
)
_captures = st.tuples(
    st.just("capture"),
    _hold,
    st.integers(1, 120),
    st.booleans(),
    st.sampled_from([*OverCapture, OverCapture.FORCE]),
)
_increases = st.tuples(
    st.just("increase"),
    _hold,
    st.integers(0, 60),
    st.sampled_from([None, 10, 20, 60]),
    st.booleans(),
)
# A grant by its age: 0 is the one made last.
_grant_age = st.sampled_from([0, 0, 1, 1, 2, 3, 5])
_by_hand = st.one_of(
    st.tuples(st.just("expiry"), _grant_age, st.sampled_from([None, -10, 10, 20, 60])),
    st.tuples(st.just("take_back"), _grant_age),
    st.tuples(
        st.just("correct"), st.sampled_from([0, 0, 1, 2, 3]), st.integers(1, 60), st.booleans()
    ),
)
_voids = st.tuples(st.just("void"), _hold)
_small = st.tuples(
    st.just("debit"), st.sampled_from([-1, -1, 0]), st.integers(1, 60), st.sampled_from(PURPOSES)
)
_groups = st.tuples(st.just("group"), st.lists(_small, min_size=2, max_size=3))
operations = st.one_of(
    _grants,
    _grants,
    _debits,
    _debits,
    _places,
    _places,
    _increases,
    _captures,
    _captures,
    _voids,
    _groups,
    _by_hand,
)


class Engine(Protocol):
    """The ledger under comparison: the core in memory, or the service's own on Postgres."""

    async def apply(self, bundles: Sequence[Bundle]) -> list[list[Outcome]]: ...


def wallet_id_of(tenant_id: str, index: int) -> str:
    """Ids that sort as the model's names do."""
    return f"00000000-0000-7000-8000-{index:04d}{tenant_id[-8:]}"


@dataclass
class World:
    """Applies operations to ledger and model alike, and insists that both answer the same."""

    tenant_id: str
    engine: Engine
    model: Model
    now: datetime = START
    count: int = 0
    placed: int = 0
    granted: list[str] = field(default_factory=list)  # ids, in the order of the model's grants
    answered: list[tuple[Operation, Outcome]] = field(default_factory=list)

    @classmethod
    def of(cls, tenant_id: str, engine: Engine, wallets: Sequence[Shape]) -> World:
        model = Model()
        for index, (priority, mode, floor, meters) in enumerate(wallets):
            floor = floor if mode == "OVERDRAFT" else 0
            model.wallets.append(ModelWallet(f"w{index}", priority, mode, floor, meters))
        return cls(tenant_id, engine, model)

    async def batch(self, chosen: Sequence[Any]) -> None:
        """One batch of operations, each checked against the model's answer in turn."""
        chosen = [self._resolve(operation) for operation in chosen]
        bundles = [self._bundle(operation) for operation in chosen]
        outcomes = await self.engine.apply(bundles)
        for operation, bundle, answers in zip(chosen, bundles, outcomes, strict=True):
            expected = self._expect(operation)
            found = [normal(outcome) for outcome in answers]
            assert found == expected, (operation, found, expected)
            for item, outcome in zip(bundle, answers, strict=True):
                assert isinstance(item, Operation)
                if isinstance(outcome, Granted) and isinstance(item, GrantItem):
                    self.granted.append(outcome.grant_id)
                if isinstance(outcome, Corrected) and outcome.increase:
                    self.granted.append(outcome.grant_id)
                self.answered.append((item, outcome))

    def check_grants(self, free: Mapping[str, int]) -> None:
        """What is free of every grant that has not expired, by id: burnt in the same order."""
        for purse in self.model.wallets:
            for grant in purse.grants:
                if grant.expire > self.now:
                    assert free[self.granted[grant.number - 1]] == grant.free, grant

    async def repeat(self, position: int) -> None:
        """A key that was answered answers the same for ever, other content is a conflict."""
        if not self.answered:
            return
        item, outcome = self.answered[position % len(self.answered)]
        other = copy.copy(item)
        other.fingerprint = bytes(16)
        same, conflict = copy.copy(item), other
        for each in (same, conflict):
            each.now = self.now
        (again,), (refused,) = await self.engine.apply([(same,), (conflict,)])
        assert again == outcome
        assert again.replayed
        assert isinstance(refused, Refused)
        assert refused.reason == "IDEMPOTENCY_CONFLICT"

    def _resolve(self, operation: Any) -> Any:
        """Name the hold that an operation means by its age."""
        if operation[0] in ("expiry", "take_back"):
            kind, age, *rest = operation
            return (kind, max(1, len(self.granted) - age), *rest)
        if operation[0] not in ("place", "increase", "capture", "void"):
            return operation
        kind, age, *rest = operation
        number = max(0, self.placed - 1 - age)
        if kind == "place" and age < 0:
            self.placed += 1
        return (kind, number, *rest)

    def _bundle(self, operation: Any) -> Bundle:
        if operation[0] == "group":
            return tuple(self._item(member) for member in operation[1])
        return (self._item(operation),)

    def _item(self, operation: Any) -> Operation:
        self.count += 1
        request_id = f"k{self.count}"
        fingerprint = hashlib.sha256(repr((request_id, operation)).encode()).digest()[:16]
        keyed = (self.tenant_id, request_id, fingerprint, self.now)
        match operation:
            case ("grant", wallet, atoms, priority, cost, effective, expire, meters):
                return GrantItem(
                    *keyed,
                    wallet_id_of(self.tenant_id, wallet),
                    ASSET,
                    SCALE,
                    atoms,
                    2 if cost == 0 else 1,
                    priority,
                    self._instant(effective),
                    self._instant(expire),
                    (meters, (), ()) if meters else None,
                    Decimal(cost),
                    "",
                    "",
                )
            case ("debit", wallet, atoms, purpose):
                return DebitItem(
                    *keyed,
                    CUSTOMER,
                    self._named(wallet),
                    ASSET,
                    SCALE,
                    atoms,
                    purpose,
                    "",
                    "",
                    False,
                    OverCapture.REJECT,
                )
            case ("place", hold, wallet, atoms, purpose, seconds, partial):
                return HoldItem(
                    *keyed,
                    self._hold_id(hold),
                    CUSTOMER,
                    self._named(wallet),
                    ASSET,
                    SCALE,
                    atoms,
                    purpose,
                    timedelta(seconds=seconds),
                    partial,
                    "",
                )
            case ("capture", hold, atoms, final, over):
                return CaptureItem(
                    *keyed, self._hold_id(hold), CUSTOMER, ASSET, SCALE, atoms, final, over, ""
                )
            case ("increase", hold, atoms, seconds, partial):
                return IncreaseItem(
                    *keyed,
                    self._hold_id(hold),
                    CUSTOMER,
                    ASSET,
                    SCALE,
                    atoms,
                    None if seconds is None else timedelta(seconds=seconds),
                    partial,
                )
            case ("expiry", number, seconds):
                return ChangeExpiryItem(
                    *self._by_hand(keyed, self._purse_of(number)),
                    self.granted[number - 1],
                    self._instant(seconds) or NEVER,
                )
            case ("take_back", number):
                return VoidGrantItem(
                    *self._by_hand(keyed, self._purse_of(number)), self.granted[number - 1], False
                )
            case ("correct", wallet, atoms, increase):
                return CorrectItem(
                    *self._by_hand(keyed, wallet), atoms, increase, Account.CORRECTION, "", None
                )
            case ("void", hold):
                return VoidItem(*keyed, self._hold_id(hold), CUSTOMER, ASSET, SCALE)
        raise AssertionError(operation)

    def _expect(self, operation: Any) -> list[tuple[object, ...]]:
        if operation[0] != "group":
            try:
                return [self._model(operation)]
            except No as no:
                return [("refused", str(no))]
        before = copy.deepcopy(self.model)
        answers: list[tuple[object, ...]] = []
        for position, member in enumerate(operation[1]):
            try:
                answers.append(self._model(member))
            except No as no:
                self.model = before
                self._look_again()
                refused: list[tuple[object, ...]] = [("refused", "GROUP_REFUSED")] * len(
                    operation[1]
                )
                refused[position] = ("refused", str(no))
                return refused
        return answers

    def _look_again(self) -> None:
        for purse in self.model.owned():
            if purse.grants or purse.floor:
                purse.touch(self.now)

    def _model(self, operation: Any) -> tuple[object, ...]:
        now = self.now
        match operation:
            case ("grant", wallet, atoms, priority, cost, effective, expire, meters):
                return self.model.grant(
                    f"w{wallet}",
                    atoms,
                    now,
                    priority=priority,
                    cost=cost,
                    effective=self._instant(effective),
                    expire=self._instant(expire),
                    meters=meters,
                )
            case ("debit", wallet, atoms, purpose):
                return self.model.debit(self._label(wallet), atoms, purpose, now)
            case ("place", hold, wallet, atoms, purpose, seconds, partial):
                expire_time = now + timedelta(seconds=seconds)
                return self.model.place(
                    f"h{hold}",
                    self._label(wallet),
                    atoms,
                    purpose,
                    now,
                    expire_time,
                    partial=partial,
                )
            case ("capture", hold, atoms, final, over):
                return self.model.capture(f"h{hold}", atoms, now, final=final, over=over)
            case ("increase", hold, atoms, seconds, partial):
                return self.model.increase(
                    f"h{hold}", atoms, now, self._instant(seconds), partial=partial
                )
            case ("expiry", number, seconds):
                return self.model.expiry(number, now, self._instant(seconds))
            case ("take_back", number):
                return self.model.take_back(number, now)
            case ("correct", wallet, atoms, increase):
                return self.model.correct(f"w{wallet}", atoms, now, increase=increase)
            case ("void", hold):
                return self.model.void(f"h{hold}", now)
        raise AssertionError(operation)

    def _purse_of(self, number: int) -> int:
        purses = self.model.wallets
        return next(i for i, w in enumerate(purses) if any(g.number == number for g in w.grants))

    def _by_hand(self, keyed: tuple[Any, ...], wallet: int) -> tuple[Any, ...]:
        return (*keyed, wallet_id_of(self.tenant_id, wallet), ASSET, SCALE, "reason", "ada", "bob")

    def _instant(self, seconds: int | None) -> datetime | None:
        return None if seconds is None else self.now + timedelta(seconds=seconds)

    def _named(self, wallet: int) -> str:
        return "" if wallet < 0 else wallet_id_of(self.tenant_id, wallet)

    def _label(self, wallet: int) -> str:
        return "" if wallet < 0 else f"w{wallet}"

    def _hold_id(self, hold: int) -> str:
        return str(uuid5(NAMES, f"{self.tenant_id}/{hold}"))


def normal(outcome: Outcome) -> tuple[object, ...]:
    """An outcome in the model's words."""
    match outcome:
        case Refused():
            return ("refused", outcome.reason)
        case Voided():
            return ("voided", outcome.unused)
        case Corrected():
            return ("corrected", outcome.available)
        case Granted():
            return ("granted", outcome.remaining)
        case Posted():
            assert sum(atoms for _, atoms, _ in outcome.shares) == outcome.atoms
            return ("posted", outcome.atoms, outcome.shortfall, outcome.available)
        case Held():
            atoms = outcome.atoms if outcome.state.name == "OPEN" else outcome.captured
            return ("held", atoms, outcome.state.name, outcome.available)
    raise AssertionError(outcome)
