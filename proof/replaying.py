"""The replay: a customer's journal, move by move, in the small obvious model."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from proof.operations import Customer, Operation, Reply
from tests.wallet.model import Model, ModelGrant, ModelHold, ModelWallet, No
from wallet.ledger.domain.values import OverCapture, TransferKind

PRUNE_EVERY = 64
TIES_MAX = 12  # steps of one instant whose order is looked for
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
KEPT = timedelta(seconds=1)  # of an ended hold: its second wallet's part comes at once
OPEN = 1  # HoldState on the wire

GRANT, DEBIT, HOLD, CAPTURE, RELEASE, EXPIRE, SETTLE = (
    TransferKind.GRANT,
    TransferKind.DEBIT,
    TransferKind.HOLD,
    TransferKind.CAPTURE,
    TransferKind.RELEASE,
    TransferKind.EXPIRE,
    TransferKind.SETTLE,
)


@dataclass(frozen=True, slots=True)
class Move:
    """One transfer, as the wallet lists it."""

    sequence: int
    kind: int
    debit: str  # wallet, held, debt, or house
    credit: str
    atoms: int
    key: str
    grants: tuple[tuple[str, int], ...]
    time: datetime


@dataclass(slots=True)
class Step:
    """What one operation, or time alone, did in one wallet: moves that follow each other."""

    wallet: int
    key: str
    moves: list[Move]

    @property
    def time(self) -> datetime:
        return self.moves[0].time


@dataclass(frozen=True, slots=True)
class Standing:
    """A customer after a step: what is available by purpose, and where the step stood."""

    available: dict[tuple[int, str], int]  # by wallet (-1: all) and meter
    key: str


@dataclass
class Figures:
    """A balance as the journal says it is."""

    credited: int = 0
    debited: int = 0
    held: int = 0
    overdrawn: int = 0
    unbacked: int = 0
    sequence: int = 0
    free: dict[str, int] = field(default_factory=dict)  # by grant

    def apply(self, move: Move) -> None:
        self.sequence = move.sequence
        if move.debit == "house":
            self.credited += move.atoms
        if move.credit == "house":
            self.debited += move.atoms
        self.held += move.atoms * ((move.credit == "held") - (move.debit == "held"))
        self.overdrawn += move.atoms * ((move.debit == "debt") - (move.credit == "debt"))
        for grant_id, atoms in move.grants:
            if not grant_id:
                self.unbacked += atoms * ((move.credit == "held") - (move.debit == "held"))
            elif move.kind in (GRANT, RELEASE):
                self.free[grant_id] = self.free.get(grant_id, 0) + atoms
            elif move.kind != CAPTURE:
                self.free[grant_id] = self.free.get(grant_id, 0) - atoms


@dataclass
class Replayed:
    """A customer's model beside its journal, as far as it was replayed."""

    model: Model
    figures: list[Figures]
    grants: dict[str, ModelGrant] = field(default_factory=dict)
    # Each hold's history: from which standing on, how much it pins, its state.
    holds: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    last: datetime = LONG_AGO  # time of the last step
    ended: dict[str, datetime] = field(default_factory=dict)  # holds, and when


class Replay:
    """Replays one customer; `wrong` says where journal, replies and model part."""

    def __init__(self, customer: Customer, operations: dict[str, Operation]) -> None:
        self.customer = customer
        self.wrong: list[str] = []
        self.standings: list[Standing] = []
        self.positions: dict[str, int] = {}
        model = Model()
        for index in range(len(customer.wallets)):
            floor = customer.floor if index == 0 else 0
            mode = "OVERDRAFT" if floor else "BLOCK"
            model.wallets.append(ModelWallet(f"w{index}", 10 * (index + 1), mode, floor))
        self.state = Replayed(model, [Figures() for _ in customer.wallets])
        self._operations = operations
        self._note_standing("")

    def run(self, journals: Sequence[Sequence[Move]]) -> None:
        """Replay the wallets' journals as one history."""
        queues = [deque(_steps(index, moves)) for index, moves in enumerate(journals)]
        while any(queues):
            joint = self._next(queues)
            if joint is None:
                self.wrong.append(f"{self.customer.name}: two wallets' histories cross")
                return
            self.wrong += self._apply(self.state, joint)
            self._note_standing(joint[0].key)

    def _next(self, queues: list[deque[Step]]) -> list[Step] | None:
        """What comes next: of two heads the earlier; one that moves both wallets, in both."""
        heads = [queue[0] for queue in queues if queue]
        if len(heads) == 1:
            return [queues[heads[0].wallet].popleft()]
        first, second = sorted(heads, key=lambda step: (step.time, step.wallet))
        if first.key and first.key == second.key:
            return [queues[step.wallet].popleft() for step in heads]
        joint = [self._waits_for(step, queues) for step in (first, second)]
        if all(joint):
            return None
        if joint[0]:
            first = second
        elif first.time == second.time and not joint[1]:
            # One batch did both, and the journal does not say which came first: the replies do.
            ties = [self._alike(queue, first.time, queues) for queue in queues]
            first = self._find_order(self.state, ties) or first
        return [queues[first.wallet].popleft()]

    def _alike(self, queue: deque[Step], time: datetime, queues: list[deque[Step]]) -> list[Step]:
        """The steps of one instant at a queue's head, up to one that moves both wallets."""
        found = []
        for step in list(queue)[:TIES_MAX]:
            if step.time != time or self._waits_for(step, queues):
                break
            found.append(step)
        return found

    def _find_order(self, state: Replayed, ties: list[list[Step]]) -> Step | None:
        """The first step of an order in which every reply of the instant comes true."""
        heads = [steps[0] for steps in ties if steps]
        if not heads:
            return None
        for head in heads:
            trial = copy.deepcopy(state)
            if self._apply(trial, [head]):
                continue
            rest = [steps[1:] if steps and steps[0] is head else steps for steps in ties]
            if not any(rest) or self._find_order(trial, rest) is not None:
                return head
        return None

    def _waits_for(self, step: Step, queues: list[deque[Step]]) -> bool:
        """Whether a step's operation moves the other wallet too, further on."""
        if not step.key:
            return False
        other = queues[1 - step.wallet]
        return any(later.key == step.key for later in list(other)[:400])

    def _apply(self, state: Replayed, steps: list[Step]) -> list[str]:
        """Do in the model what the journal says was done, and compare both."""
        key, now = steps[0].key, max(step.time for step in steps)
        for step in steps:
            for move in step.moves:
                state.figures[step.wallet].apply(move)
        wrong: list[str] = []
        if key:
            operation = self._operations.get(key)
            if operation is None:
                return [f"ghost: {key} was asked by nobody"]
            wrong += self._perform(state, operation, steps, now)
        else:
            wrong += self._let_time_pass(state, steps, now)
        wrong += self._compare(state, steps, now)
        state.last = now
        return [f"{self.customer.name} at {steps[0].moves[0].sequence}: {words}" for words in wrong]

    def _perform(
        self, state: Replayed, operation: Operation, steps: list[Step], now: datetime
    ) -> list[str]:
        model, reply = state.model, operation.reply
        label = f"w{operation.wallet}" if operation.wallet >= 0 else ""
        purpose = (operation.meter, "", "")
        try:
            match operation.kind:
                case "grant":
                    expire = _exactly(operation.expire) if operation.expire else None
                    found = model.grant(
                        label,
                        operation.atoms,
                        now,
                        priority=operation.priority,
                        cost=operation.cost,
                        effective=None,
                        expire=expire,
                        meters=(operation.meter,) if operation.meter else (),
                    )
                    made = steps[0].moves
                    (grant_id, _) = next(m for m in made if m.kind == GRANT).grants[0]
                    state.grants[grant_id] = model.wallets[operation.wallet].grants[-1]
                case "debit":
                    found = model.debit(label, operation.atoms, purpose, now)
                case "place":
                    found = model.place(
                        operation.hold_id,
                        label,
                        operation.atoms,
                        purpose,
                        now,
                        now + timedelta(seconds=int(operation.seconds)),
                        partial=operation.partial,
                    )
                case "capture":
                    over = OverCapture[operation.over]
                    found = model.capture(
                        operation.hold_id, operation.atoms, now, final=operation.final, over=over
                    )
                case _:
                    found = model.void(operation.hold_id, now)
        except No as no:
            return [f"{operation.key} moved value, the model refuses it: {no}"]
        if operation.hold_id:
            self._note_hold(state, operation.hold_id)
        if reply is None:
            return [f"{operation.key} was never answered"]
        return _differences(operation, reply, found, steps, self.customer)

    def _let_time_pass(self, state: Replayed, steps: list[Step], now: datetime) -> list[str]:
        wrong = []
        for step in steps:
            for move in step.moves:
                if move.kind != RELEASE:
                    continue
                hold = _expired(state.model, state.grants, step.wallet, move, now)
                if hold is None:
                    wrong.append(f"move {move.sequence} releases a hold that is not over")
                    continue
                if hold.state == "OPEN":
                    state.model._release(hold, now)
                    hold.state = "EXPIRED"
                    self._note_hold(state, hold.name)
            state.model.wallets[step.wallet].touch(now)
        return wrong

    def _compare(self, state: Replayed, steps: list[Step], now: datetime) -> list[str]:
        """What is free of every grant that moved, and what is owed."""
        wrong = []
        for step in steps:
            purse, figures = state.model.wallets[step.wallet], state.figures[step.wallet]
            for grant_id in {grant for move in step.moves for grant, _ in move.grants if grant}:
                grant = state.grants.get(grant_id)
                if grant is None:
                    wrong.append(f"grant {grant_id} was never made")
                elif grant.expire > now and grant.free != figures.free[grant_id]:
                    wrong.append(
                        f"{step.key or 'time'} left {figures.free[grant_id]} free of a grant,"
                        f" the model {grant.free}"
                    )
            debt = figures.overdrawn - figures.unbacked
            if (purse.debt, purse.lent) != (debt, figures.unbacked):
                wrong.append(
                    f"{step.key or 'time'}: debt {debt} and lent {figures.unbacked},"
                    f" the model {purse.debt} and {purse.lent}"
                )
        return wrong

    def _note_standing(self, key: str) -> None:
        model, position = self.state.model, len(self.standings)
        if position % PRUNE_EVERY == 0:
            _prune(self.state)
        available = {}
        for meter in ("", "m1"):
            each = [_funds(purse, meter) + purse.headroom() for purse in model.wallets]
            available[-1, meter] = sum(each)
            for index, atoms in enumerate(each):
                available[index, meter] = atoms
        self.standings.append(Standing(available, key))
        if key:
            self.positions[key] = position

    def _note_hold(self, state: Replayed, hold_id: str) -> None:
        hold = state.model.holds.get(hold_id)
        if hold is not None:
            pinned = sum(atoms for _, _, atoms in hold.pins)
            history = state.holds.setdefault(hold_id, [])
            history.append((len(self.standings), pinned, hold.state))
            if hold.state != "OPEN":
                state.ended[hold_id] = state.last


def _steps(wallet: int, moves: Iterable[Move]) -> list[Step]:
    """Moves parted by what did them. What time did within an operation belongs to it."""
    steps: list[Step] = []
    for move in moves:
        last = steps[-1] if steps else None
        if last is not None and last.time == move.time:
            if last.key == move.key:
                last.moves.append(move)
                continue
            before = steps[-2] if len(steps) > 1 else None
            if (
                not last.key
                and before is not None
                and before.key == move.key
                and before.time == move.time
            ):
                # Released, expired at once, and settled: one operation.
                before.moves += [*last.moves, move]
                steps.pop()
                continue
        steps.append(Step(wallet, move.key, [move]))
    return steps


def _differences(
    operation: Operation,
    reply: Reply,
    found: tuple[object, ...],
    steps: list[Step],
    customer: Customer,
) -> list[str]:
    """How a reply differs from what the model answers and from what the journal holds."""
    answered: tuple[object, ...]
    match reply.what:
        case "posted":
            answered = ("posted", reply.atoms, reply.shortfall, reply.available)
        case "held":
            atoms = reply.atoms if reply.state == OPEN else reply.captured
            state = {1: "OPEN", 2: "CAPTURED", 3: "VOIDED", 4: "EXPIRED"}[reply.state]
            answered = ("held", atoms, state, reply.available)
        case "granted":
            answered = ("granted", reply.available)
        case _:
            return [f"ghost: {operation.key} was refused with {reply.reason} and moved value"]
    wrong = []
    if answered != found:
        wrong.append(f"{operation.key} was answered {answered}, the model says {found}")
    if operation.kind in ("debit", "place", "capture"):
        kinds = (HOLD,) if operation.kind == "place" else (DEBIT, CAPTURE)
        for step in steps:
            moves = [move for move in step.moves if move.kind in kinds]
            stands = (
                customer.wallets[step.wallet],
                sum(move.atoms for move in moves),
                moves[0].sequence if moves else 0,
            )
            if moves and stands not in reply.shares:
                wrong.append(f"{operation.key} was answered {reply.shares}, the journal {stands}")
    return wrong


def _expired(
    model: Model, grants: dict[str, ModelGrant], wallet: int, move: Move, now: datetime
) -> ModelHold | None:
    """The hold that time released: over, and pinning just that; or released a moment ago."""
    purse = model.wallets[wallet]
    released = [(id(grants.get(grant)) if grant else None, atoms) for grant, atoms in move.grants]
    for hold in model.holds.values():
        if hold.state != "OPEN" or hold.expire > now:
            continue
        pins = [
            (id(grant) if grant is not None else None, atoms)
            for owner, grant, atoms in hold.pins
            if owner is purse
        ]
        backed = [pin for pin in pins if pin[0] is not None]
        lent = [pin for pin in pins if pin[0] is None]
        if released in (backed, lent):
            return hold
    # The second wallet's part, or the lent part, of one that was released with its first.
    for hold in model.holds.values():
        if hold.state == "EXPIRED" and hold.expire <= now:
            return hold
    return None


def _funds(purse: ModelWallet, meter: str) -> int:
    return sum(g.free for g in purse.grants if not g.meters or meter in g.meters)


def _prune(state: Replayed) -> None:
    """Forget what is over, lest every step look at it: ended holds, and grants that are used up
    and pinned by nothing."""
    model = state.model
    for hold_id in [h for h, ended in state.ended.items() if ended < state.last - KEPT]:
        del state.ended[hold_id]
        model.holds.pop(hold_id, None)
    pinned = {
        id(grant) for hold in model.holds.values() for _, grant, _ in hold.pins if grant is not None
    }
    for purse in model.wallets:
        purse.grants = [g for g in purse.grants if g.free or id(g) in pinned]


def _exactly(instant: float) -> datetime:
    """A timestamp to the microsecond, as it went over the wire."""
    return LONG_AGO + timedelta(microseconds=int(instant * 1_000_000))
