"""The checker: journal, replies and model of one round, compared with each other."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from proof.operations import Customer, Operation
from proof.replaying import Move, Replay, Standing
from tests.wallet.client import WalletClient
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate.wallet.v1 import wallet_pb2 as wallet_messages
from tollgate.wallet.v1 import wallet_service_pb2 as wallets

PAGE = 1_000
READERS = 4
BALANCES_PAGE = 200
SOON_SECONDS = 30.0  # what ends later does not end while a round is checked
STILL_SECONDS = 3.0  # longer than a sweep takes to come by


@dataclass
class Verdict:
    """What is wrong, by the kind of wrong; nothing anywhere is what must be found."""

    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    ghost: list[str] = field(default_factory=list)
    divergent: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    conservation: list[str] = field(default_factory=list)
    moves: int = 0
    denials: int = 0

    def add(self, other: Verdict) -> None:
        for name in KINDS:
            getattr(self, name).extend(getattr(other, name))
        self.moves += other.moves
        self.denials += other.denials


KINDS = ("lost", "double", "ghost", "divergent", "gaps", "order", "conservation")


class Checker:
    """Checks one round: its customers, and what was asked of them."""

    def __init__(
        self, client: WalletClient, customers: list[Customer], operations: dict[str, Operation]
    ) -> None:
        self.verdict = Verdict()
        self._client = client
        self._customers = customers
        self._operations = operations
        self._by_customer: dict[str, list[Operation]] = {c.name: [] for c in customers}
        for operation in operations.values():
            self._by_customer[operation.customer.name].append(operation)
        self._replays: dict[str, Replay] = {}
        self._wall = time.time() - time.monotonic()
        self._expire_times = {
            o.hold_id: o.reply.times[1]
            for o in operations.values()
            if o.kind == "place" and o.reply
        }

    async def run(self) -> Verdict:
        """Read everything through the contract, and compare."""
        await self._stand_still()
        queue = iter(self._customers)

        async def read() -> None:
            for customer in queue:
                journals = [await self._journal(wallet) for wallet in customer.wallets]
                await asyncio.to_thread(self._check_customer, customer, journals)

        await asyncio.gather(*[read() for _ in range(READERS)])
        await self._check_sums()
        return self.verdict

    async def _stand_still(self) -> None:
        """Wait until time has done what it will do soon: what expired while journals are read would
        be in the balances alone."""
        now = time.time()
        ends = [o.expire for o in self._operations.values()]
        ends += [end / 1_000_000 for end in self._expire_times.values()]
        last = max((end for end in ends if end <= now + SOON_SECONDS), default=now)
        before: list[tuple[str, int]] = []
        standing_since = now
        while time.time() - max(standing_since, last) < STILL_SECONDS:
            found = [(b.wallet_id, b.sequence) for b in await self._balances()]
            if found != before:
                before, standing_since = found, time.time()
            await asyncio.sleep(STILL_SECONDS / 10)

    async def _balances(self) -> list[wallet_messages.Balance]:
        found: list[wallet_messages.Balance] = []
        for start in range(0, len(self._customers), BALANCES_PAGE):
            names = [c.name for c in self._customers[start : start + BALANCES_PAGE]]
            answer = await self._client.call(
                self._client.wallets.GetBalances, wallets.GetBalancesRequest(customer_ids=names)
            )
            found += answer.balances
        return found

    async def _journal(self, wallet_id: str) -> list[Move]:
        moves: list[Move] = []
        token = ""
        while True:
            answer = await self._client.call(
                self._client.ledger.ListTransfers,
                ledger.ListTransfersRequest(wallet_id=wallet_id, page_size=PAGE, page_token=token),
            )
            moves += [
                Move(
                    t.sequence,
                    t.kind,
                    t.debit_account.partition(":")[0],
                    t.credit_account.partition(":")[0],
                    int(t.amount.value),
                    t.request_id,
                    tuple((share.grant_id, int(share.value)) for share in t.grants),
                    t.create_time.ToDatetime(UTC),
                )
                for t in answer.transfers
            ]
            token = answer.next_page_token
            if not token:
                return moves

    def _check_customer(self, customer: Customer, journals: list[list[Move]]) -> None:
        verdict, asked = self.verdict, self._by_customer[customer.name]
        verdict.moves += sum(len(moves) for moves in journals)
        for wallet_id, moves in zip(customer.wallets, journals, strict=True):
            numbers = [move.sequence for move in moves]
            if numbers != list(range(1, len(moves) + 1)):
                verdict.gaps.append(f"wallet {wallet_id} has not the numbers 1 to {len(moves)}")
            self._check_order(wallet_id, moves)
        self._check_keys(customer, asked, journals)
        replay = Replay(customer, self._operations)
        replay.run(journals)
        for words in replay.wrong:
            (verdict.ghost if "ghost" in words else verdict.divergent).append(words)
        self._check_silent(replay, asked)
        self._replays[customer.name] = replay

    def _check_keys(
        self, customer: Customer, asked: Sequence[Operation], journals: list[list[Move]]
    ) -> None:
        """Acknowledged and not there is lost, there and not asked is a ghost, twice is double."""
        verdict = self.verdict
        instants: dict[str, set[tuple[int, datetime]]] = {}
        used: Counter[str] = Counter()
        for index, moves in enumerate(journals):
            for move in moves:
                if move.key:
                    instants.setdefault(move.key, set()).add((index, move.time))
                    if move.kind in (1, 2, 3, 4):
                        used[move.key] += move.atoms
        for key, seen in instants.items():
            operation = self._operations.get(key)
            if operation is None:
                verdict.ghost.append(f"{key} moved value of {customer.name}; nobody asked it")
            elif len({instant for _, instant in seen}) > 1:
                verdict.double.append(f"{key} moved value at {len(seen)} times")
        for operation in asked:
            reply = operation.reply
            if reply is None:
                verdict.lost.append(f"{operation.key} was never answered")
                continue
            if reply.what == "refused" or (reply.what == "held" and operation.kind == "void"):
                continue
            if reply.atoms and operation.key not in instants:
                verdict.lost.append(f"{operation.key} was acknowledged: {reply}")
            elif used[operation.key] > reply.atoms:
                verdict.double.append(
                    f"{operation.key} moved {used[operation.key]}, acknowledged {reply.atoms}"
                )
            elif used[operation.key] < reply.atoms:
                verdict.lost.append(
                    f"{operation.key} moved {used[operation.key]}, acknowledged {reply.atoms}"
                )

    def _check_order(self, wallet_id: str, moves: list[Move]) -> None:
        """A reply before a request on one wallet is a lower number."""
        earliest = float("inf")
        for move in reversed(moves):
            operation = self._operations.get(move.key)
            if operation is None or operation.reply is None:
                continue
            if earliest < operation.sent:
                self.verdict.order.append(
                    f"wallet {wallet_id}: {move.key} at {move.sequence} was asked after a later"
                    " number was answered"
                )
            earliest = min(earliest, operation.replied)

    def _check_silent(self, replay: Replay, asked: Sequence[Operation]) -> None:
        """Answers that moved nothing: each must have been true at some moment of its call."""
        windows = _Windows(replay, self._operations)
        silent = {
            o.hold_id
            for o in asked
            if o.kind in ("capture", "void")
            and o.key not in replay.positions
            and o.reply
            and o.reply.what != "refused"
        }
        for operation in asked:
            reply = operation.reply
            if reply is None or operation.key in replay.positions:
                continue
            self.verdict.denials += 1
            low, high = windows.of(operation)
            span = replay.standings[low : high + 1]
            facts = dict(reply.facts)
            meter = operation.meter
            match reply.reason:
                case "INSUFFICIENT_FUNDS":
                    said = int(facts["available"])
                    true = any(s.available[operation.wallet, meter] == said for s in span)
                    true = true and said < int(facts["needed"])
                case "OVER_CAPTURE":
                    pinned = windows.pinned(operation.hold_id, low, high)
                    true = int(facts["held"]) in {atoms for atoms, _ in pinned}
                case "HOLD_ENDED":
                    states = {state for _, state in windows.pinned(operation.hold_id, low, high)}
                    true = facts["state"] in states or operation.hold_id in silent
                    true = true or self._was_over(operation, facts["state"])
                    true = true or self._is_tombstone(asked, operation)
                case "NOT_FOUND" | "HOLD_VOIDED_BEFORE":
                    true = bool(operation.hold_id)
                case "":
                    true = reply.atoms == 0 or operation.kind == "void"
                case "INVALID_VALUE" if operation.expire:
                    true = operation.expire <= operation.replied + self._wall
                case _:
                    true = False
            if not true:
                self.verdict.divergent.append(
                    f"{operation.key} was answered {reply}, which was never so between"
                    f" {_words(span)}"
                )

    def _was_over(self, operation: Operation, state: str) -> bool:
        """Whether a hold's time was over. Of two alike that expire together the journal does not
        say which it released first."""
        expire = self._expire_times.get(operation.hold_id)
        if state != "EXPIRED" or expire is None:
            return False
        return expire <= (operation.replied + self._wall) * 1_000_000

    def _is_tombstone(self, asked: Sequence[Operation], operation: Operation) -> bool:
        return any(
            o.kind == "void"
            and o.hold_id == operation.hold_id
            and o.reply is not None
            and o.reply.what == "held"
            and not o.reply.customer
            for o in asked
        )

    async def _check_sums(self) -> None:
        """Balances are what the replay left, debits equal credits, the verifier agrees."""
        client, verdict = self._client, self.verdict
        for balance in await self._balances():
            replay = self._replays[balance.customer_id]
            index = replay.customer.wallets.index(balance.wallet_id)
            figures = replay.state.figures[index]
            stored = tuple(int(x or 0) for x in (balance.credited, balance.debited, balance.held))
            derived = (figures.credited, figures.debited, figures.held)
            if stored != derived or balance.sequence != figures.sequence:
                verdict.conservation.append(
                    f"wallet {balance.wallet_id}: {stored} is stored, the replay left {derived}"
                )
        answer = await client.call(client.ledger.GetTrialBalance, ledger.GetTrialBalanceRequest())
        sums: Counter[str] = Counter()
        for total in answer.totals:
            sums[total.asset] += int(total.debits) - int(total.credits)
        verdict.conservation += [
            f"{a}: debits and credits differ by {n}" for a, n in sums.items() if n
        ]
        verdict.conservation += [
            f"wallet {d.wallet_id}: {d.figure} is {d.stored}, the journal says {d.derived}"
            for d in await client.verify()
        ]


class _Windows:
    """Between which standings of a customer a call can have been decided, by real time alone."""

    def __init__(self, replay: Replay, operations: dict[str, Operation]) -> None:
        self._replay = replay
        self._last = len(replay.standings) - 1
        done = [(operations[key], at) for key, at in replay.positions.items() if key in operations]
        # Positions rise; the highest answered before an instant, the lowest asked after one.
        self._answered = sorted((o.replied, at) for o, at in done if o.replied)
        self._asked = sorted((o.sent, at) for o, at in done)
        high = 0
        self._highest: list[int] = []
        for _, at in self._answered:
            high = max(high, at)
            self._highest.append(high)
        low = self._last + 1
        self._lowest: list[int] = []
        for _, at in reversed(self._asked):
            low = min(low, at)
            self._lowest.append(low)
        self._lowest.reverse()

    def of(self, operation: Operation) -> tuple[int, int]:
        before = bisect_left(self._answered, (operation.sent, -1))
        after = bisect_right(self._asked, (operation.replied, self._last + 1))
        low = self._highest[before - 1] if before else 0
        high = self._lowest[after] - 1 if after < len(self._lowest) else self._last
        return low, max(low, high)

    def pinned(self, hold_id: str, low: int, high: int) -> list[tuple[int, str]]:
        """What a hold pinned, and its state, at the moments of a window."""
        history = self._replay.state.holds.get(hold_id, [])
        found = []
        for number, (at, atoms, state) in enumerate(history):
            until = history[number + 1][0] if number + 1 < len(history) else self._last + 1
            if at <= high and until > low:
                found.append((atoms, state))
        return found


def _words(span: Sequence[Standing]) -> str:
    return f"{[sorted(s.available.items()) for s in span[:3]]} and {len(span)} standings"
