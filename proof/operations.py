"""What the load asks of the wallet, and what it was answered: one record for each key."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger

ASSET = "token"  # of scale 0: what is on the wire is atoms
OVER = {
    "REJECT": ledger_pb2.OVER_CAPTURE_REJECT,
    "CLAMP": ledger_pb2.OVER_CAPTURE_CLAMP,
    "USE_AVAILABLE": ledger_pb2.OVER_CAPTURE_USE_AVAILABLE,
    "FORCE": ledger_pb2.OVER_CAPTURE_FORCE,
}


@dataclass(slots=True, eq=False)
class Customer:
    """A payer: one wallet, or two that pay one after the other."""

    name: str
    wallets: list[str]
    floor: int = 0  # of the first wallet's overdraft
    holds: list[Operation] = field(default_factory=list)  # placed and not known to have ended


@dataclass(slots=True, eq=False)
class Operation:
    """One keyed item. Times are the load's own monotonic clock, in seconds."""

    key: str
    kind: str  # grant, debit, place, capture, void
    customer: Customer
    atoms: int = 0
    wallet: int = -1  # index of the one wallet that is meant; -1: all
    meter: str = ""
    hold_id: str = ""
    final: bool = False
    over: str = "REJECT"
    seconds: float = 0.0  # time to live of a hold; of a grant, 0 for ever
    expire: float = 0.0  # of a grant, as a timestamp
    priority: int = 50
    cost: int = 0
    partial: bool = False
    sent: float = 0.0
    replied: float = 0.0
    attempts: int = 0
    reply: Reply | None = None

    def item(self) -> Any:
        """The item on the wire, always the same bytes."""
        wallet_id = self.customer.wallets[self.wallet] if self.wallet >= 0 else ""
        amount = Amount(asset=ASSET, value=str(self.atoms))
        purpose = ledger.Purpose(meter=self.meter)
        match self.kind:
            case "grant":
                item = ledger.GrantItem(
                    request_id=self.key,
                    wallet_id=wallet_id,
                    amount=amount,
                    kind=ledger_pb2.GRANT_KIND_PAID if self.cost else 2,
                    priority=self.priority,
                    cost_basis=str(self.cost),
                    cost_asset=ASSET,
                    restrictions=wallet_pb2.Restrictions(meters=[self.meter])
                    if self.meter
                    else None,
                )
                if self.expire:
                    item.expire_time.CopyFrom(_stamp(self.expire))
                return item
            case "debit":
                return ledger.DebitItem(
                    request_id=self.key,
                    customer_id=self.customer.name,
                    wallet_id=wallet_id,
                    amount=amount,
                    purpose=purpose,
                )
            case "place":
                seconds = int(self.seconds)
                return ledger.HoldItem(
                    request_id=self.key,
                    customer_id=self.customer.name,
                    wallet_id=wallet_id,
                    amount=amount,
                    purpose=purpose,
                    hold_id=self.hold_id,
                    time_to_live=Duration(seconds=seconds),
                    partial_allowed=self.partial,
                )
            case "capture":
                return ledger.CaptureItem(
                    request_id=self.key,
                    hold_id=self.hold_id,
                    value=str(self.atoms),
                    final=self.final,
                    over_capture=OVER[self.over],
                )
            case "void":
                return ledger.VoidItem(request_id=self.key, hold_id=self.hold_id)
        raise AssertionError(self.kind)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer without its mark of being a repeat: two of one key must be equal."""

    what: str  # posted, held, granted, refused
    reason: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    atoms: int = 0
    shortfall: int = 0
    available: int = 0
    late: bool = False
    state: int = 0
    captured: int = 0
    name: str = ""  # of the hold or grant
    customer: str = ""
    shares: tuple[tuple[str, int, int], ...] = ()
    times: tuple[int, int] = (0, 0)


def read_reply(outcome: Any) -> Reply:
    """A reply from any outcome message."""
    which = outcome.WhichOneof("outcome")
    if which == "refusal":
        refusal = outcome.refusal
        return Reply("refused", refusal.reason, tuple(sorted(refusal.facts.items())))
    if which == "debit":
        debit = outcome.debit
        return Reply(
            "posted",
            atoms=int(debit.amount.value),
            shortfall=int(debit.shortfall or 0),
            available=int(debit.available),
            late=debit.late,
            shares=_shares(debit.shares),
        )
    if which == "hold":
        hold = outcome.hold
        return Reply(
            "held",
            atoms=int(hold.amount.value or 0),
            available=int(outcome.available or 0),
            state=hold.state,
            captured=int(hold.captured or 0),
            name=hold.hold_id,
            customer=hold.customer_id,
            shares=_shares(hold.shares),
            times=(hold.create_time.ToMicroseconds(), hold.expire_time.ToMicroseconds()),
        )
    grant = outcome.grant
    return Reply(
        "granted",
        atoms=int(grant.amount.value),
        available=int(grant.remaining),
        name=grant.grant_id,
        customer=grant.wallet_id,
        times=(grant.create_time.ToMicroseconds(), grant.expire_time.ToMicroseconds()),
    )


def _shares(shares: Any) -> tuple[tuple[str, int, int], ...]:
    return tuple((share.wallet_id, int(share.value), share.sequence) for share in shares)


def _stamp(instant: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(int(instant * 1_000_000))
    return stamp


class Generator:
    """Chooses operations by a seed: mostly debits, some of everything, many that must fail."""

    def __init__(self, seed: int, customers: list[Customer]) -> None:
        self._chance = random.Random(seed)
        self._customers = customers
        self._count = 0
        self._label = f"{seed:x}"

    def call(self, size_max: int, now: float) -> list[Operation]:
        """The operations of one call, all of one kind, at most one of each customer that has
        several wallets: their order could not be told from the journal otherwise."""
        chance = self._chance
        kind = chance.choices(("debit", "grant", "place", "capture", "void"), (60, 8, 14, 13, 5))[0]
        size = max(1, int(size_max * chance.random() ** 2))
        operations: list[Operation] = []
        seen: set[str] = set()
        for customer in self._pick(size):
            if len(customer.wallets) > 1:
                if customer.name in seen:
                    continue
                seen.add(customer.name)
            made = self._make(kind, customer, now)
            if made is not None:
                operations.append(made)
        return operations or [self._make_debit(self._customers[0])]

    def twin(self) -> bool:
        """Whether a call is sent twice at once."""
        return self._chance.random() < 0.05

    def pick_line(self, count: int) -> int:
        return self._chance.randrange(count)

    def _pick(self, size: int) -> Iterator[Customer]:
        hot = self._chance.random() < 0.3
        for _ in range(size):
            # A third of the calls meet on a few hot customers.
            yield self._chance.choice(self._customers[:3] if hot else self._customers)

    def _key(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._label}-{self._count}"

    def _make(self, kind: str, customer: Customer, now: float) -> Operation | None:
        match kind:
            case "grant":
                return self._make_grant(customer, now)
            case "debit":
                return self._make_debit(customer)
            case "place":
                return self._make_place(customer)
            case "capture" | "void":
                return self._make_end(kind, customer)
        raise AssertionError(kind)

    def _make_grant(self, customer: Customer, now: float) -> Operation:
        chance = self._chance
        expire = chance.choice((0, 0, 0, 2, 5))
        return Operation(
            self._key("grant"),
            "grant",
            customer,
            atoms=chance.randint(1, 4_000),
            wallet=chance.randrange(len(customer.wallets)),
            meter=chance.choice(("", "", "", "m1")),
            expire=round(now + expire + chance.random(), 3) if expire else 0.0,
            priority=chance.choice((10, 50)),
            cost=chance.choice((0, 1)),
        )

    def _make_debit(self, customer: Customer) -> Operation:
        chance = self._chance
        return Operation(
            self._key("debit"),
            "debit",
            customer,
            atoms=chance.choice((1, 1, 2, 5, 13, 70, 400)),
            wallet=chance.choice((-1, -1, -1, 0)),
            meter=chance.choice(("", "m1")),
        )

    def _make_place(self, customer: Customer) -> Operation:
        chance = self._chance
        made = Operation(
            self._key("place"),
            "place",
            customer,
            atoms=chance.choice((5, 20, 75, 300)),
            meter=chance.choice(("", "m1")),
            hold_id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            seconds=chance.choice((1, 3, 900, 900, 900)),
            partial=chance.random() < 0.2,
        )
        customer.holds.append(made)
        return made

    def _make_end(self, kind: str, customer: Customer) -> Operation | None:
        chance = self._chance
        if not customer.holds:
            return None
        place = chance.randrange(len(customer.holds))
        hold = customer.holds[place]
        final = kind == "void" or chance.random() < 0.7
        if final and chance.random() < 0.9:
            customer.holds.pop(place)
        over = chance.choice(("REJECT", "REJECT", "CLAMP", "USE_AVAILABLE", "FORCE"))
        return Operation(
            self._key(kind),
            kind,
            customer,
            # Below what is held as a rule, so that ending a hold shows in the journal.
            atoms=max(1, hold.atoms * chance.choice((1, 2, 3, 6)) // 4) if kind == "capture" else 0,
            hold_id=hold.hold_id,
            final=final if kind == "capture" else False,
            over=over,
        )
