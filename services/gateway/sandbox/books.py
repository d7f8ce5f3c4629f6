"""The sandbox's books: what it charged, under which keys, kept in a file that outlives a kill.

Lines of JSON are appended, in one write for each change, before anything is answered. The kernel
has them once `write` returns, so that `kill -9` loses nothing; a machine that loses power may.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.sandbox.behaviour import Behaviour

TAKEN = "succeeded"  # the one state in which money has been taken


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment object. Amounts are minor units."""

    id: str
    reference: str
    amount: int
    currency: str
    method: str
    customer: str
    description: str
    time: str  # as the request states it
    state: str
    decline_code: str = ""
    later: str = ""  # the state it takes when `due`
    due: float = 0.0  # machine's seconds; 0: never
    step: int = 0  # how often its state has changed
    capture: bool = True  # False: reserved only, until a capture
    captured: int = 0
    key_forgotten: bool = False
    notify_url: str = ""
    notify_secret: str = field(default="", repr=False)

    @property
    def settled(self) -> str:
        """The state of a payment that went well."""
        return TAKEN if self.capture else "authorized"

    def moved(self, state: str, decline_code: str = "") -> Payment:
        """In its next state; what it was to become later is decided with it."""
        return replace(
            self,
            state=state,
            decline_code=decline_code,
            later="",
            due=0.0,
            step=self.step + 1,
            captured=self.amount if state == TAKEN else self.captured,
        )

    def render(self, address: str) -> dict[str, Any]:
        """The object as the API answers it."""
        rendered: dict[str, Any] = {
            "id": self.id,
            "reference": self.reference,
            "amount": self.amount,
            "currency": self.currency,
            "method": self.method,
            "customer": self.customer,
            "description": self.description,
            "create_time": self.time,
            "state": self.state,
        }
        if not self.capture:
            rendered["captured"] = self.captured
        if self.decline_code:
            rendered["decline_code"] = self.decline_code
        if self.state == "requires_action":
            rendered["action_url"] = f"{address}/actions/{self.id}"
        return rendered


@dataclass(frozen=True, slots=True)
class Refund:
    """Money sent back against one payment. Amounts are minor units."""

    id: str
    reference: str
    payment_id: str
    amount: int
    currency: str
    state: str
    failure_code: str = ""
    later: str = ""
    due: float = 0.0
    step: int = 0
    notify_url: str = ""
    notify_secret: str = field(default="", repr=False)

    def render(self) -> dict[str, Any]:
        """The object as the API answers it."""
        rendered: dict[str, Any] = {
            "id": self.id,
            "reference": self.reference,
            "payment": self.payment_id,
            "amount": self.amount,
            "currency": self.currency,
            "state": self.state,
        }
        if self.failure_code:
            rendered["failure_code"] = self.failure_code
        return rendered


@dataclass(frozen=True, slots=True)
class Kept:
    """The first answer given to a key."""

    fingerprint: str
    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A notification to be sent, with how it is to be treated on the way."""

    id: str
    kind: str
    payment_id: str
    url: str
    secret: str = field(repr=False)
    body: str
    due: float
    signature: str = "good"  # good, none or bad
    tries: int = 0


class JournalInUse(Exception):
    """Another sandbox keeps its books in this file."""


class Books:
    """Payments, keys and notifications due. Without a path, they live as long as the process."""

    def __init__(self, seed: int, path: Path | None = None) -> None:
        self.seed = seed
        self.payments: dict[str, Payment] = {}
        self.refunds: dict[str, Refund] = {}
        self.keys: dict[str, Kept] = {}
        self.letters: dict[str, Letter] = {}
        # Whatever else a dialect keeps: customers, orders, pages, what it told; by kind and id.
        self.things: dict[str, dict[str, dict[str, Any]]] = {}
        self._by_reference: dict[str, list[str]] = {}
        self._waiting: dict[str, Payment] = {}  # those that change later
        self._file: int | None = None
        self._held: list[tuple[str, Mapping[str, Any]]] | None = None
        if path is not None:
            self._open(path)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # --- payments ---------------------------------------------------------------------------------

    def charge(
        self,
        wanted: Payment,
        behaviour: Behaviour,
        now: float,
        answer: Callable[[Payment], Kept],
        key: str = "",
    ) -> tuple[Payment, Kept]:
        """Enter a new payment, and with it the answer that its key is to get ever after.

        Its id follows from the seed, its reference and how many payments that has. The two are one
        entry: a kill between them would leave a charge whose repeat charges again.
        """
        number = len(self._by_reference.get(wanted.reference, []))
        payment = replace(
            wanted,
            id="pay_" + self.derive(wanted.reference, str(number)),
            state=wanted.settled if behaviour.state == TAKEN else behaviour.state,
            decline_code=behaviour.decline_code,
            later=behaviour.later,
            due=now + behaviour.delay_seconds if behaviour.later else 0.0,
        )
        if payment.state == TAKEN:
            payment = replace(payment, captured=payment.amount)
        kept = answer(payment)
        entries: list[tuple[str, Mapping[str, Any]]] = [("payment", asdict(payment))]
        if key and not payment.key_forgotten:
            entries.append(("key", {"key": key, **asdict(kept)}))
            self.keys[key] = kept
        self._write(*entries)
        self._keep_payment(payment)
        return payment, kept

    def move(self, payment_id: str, state: str, decline_code: str = "") -> Payment:
        """Enter a payment's next state; what it was to become later is decided with it."""
        payment = self.payments[payment_id]
        moved = payment.moved(payment.settled if state == TAKEN else state, decline_code)
        self.enter(moved)
        return moved

    def enter(self, payment: Payment, key: str = "", kept: Kept | None = None) -> None:
        """Enter a payment as it is now, and with it what its key is answered ever after."""
        entries: list[tuple[str, Mapping[str, Any]]] = [("payment", asdict(payment))]
        if key and kept is not None:
            entries.append(("key", {"key": key, **asdict(kept)}))
            self.keys[key] = kept
        self._write(*entries)
        self._keep_payment(payment)

    def find(self, reference: str) -> list[Payment]:
        """Every payment of a reference, oldest first."""
        return [self.payments[each] for each in self._by_reference.get(reference, [])]

    def due_payments(self, now: float) -> list[Payment]:
        """Payments whose later state is now."""
        return [each for each in self._waiting.values() if each.due <= now]

    def next_due(self) -> float | None:
        """When something is due next, in the machine's seconds."""
        times = [each.due for each in self._waiting.values()]
        times += [letter.due for letter in self.letters.values()]
        times += [each.due for each in self.refunds.values() if each.later]
        return min(times, default=None)

    def derive(self, *parts: str) -> str:
        """24 characters that follow from the seed and the parts alone."""
        text = "/".join((str(self.seed), *parts))
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    # --- refunds ----------------------------------------------------------------------------------

    def send_back(
        self,
        payment: Payment,
        reference: str,
        amount: int,
        behaviour: Behaviour,
        now: float,
        answer: Callable[[Refund], Kept],
        key: str = "",
    ) -> tuple[Refund, Kept]:
        """Enter a refund, and with it the answer that its key is to get ever after."""
        number = sum(each.reference == reference for each in self.refunds.values())
        refund = Refund(
            id="ref_" + self.derive(payment.id, reference, str(number)),
            reference=reference,
            payment_id=payment.id,
            amount=amount,
            currency=payment.currency,
            state=behaviour.state,
            failure_code=behaviour.decline_code,
            later=behaviour.later,
            due=now + behaviour.delay_seconds if behaviour.later else 0.0,
            notify_url=payment.notify_url,
            notify_secret=payment.notify_secret,
        )
        kept = answer(refund)
        entries: list[tuple[str, Mapping[str, Any]]] = [("refund", asdict(refund))]
        if key:
            entries.append(("key", {"key": key, **asdict(kept)}))
            self.keys[key] = kept
        self._write(*entries)
        self.refunds[refund.id] = refund
        return refund, kept

    def move_refund(self, refund: Refund) -> Refund:
        """Enter the state that a refund takes later."""
        moved = replace(refund, state=refund.later, later="", due=0.0, step=refund.step + 1)
        self._write(("refund", asdict(moved)))
        self.refunds[moved.id] = moved
        return moved

    def refunded(self, payment_id: str) -> int:
        """How much of a payment went back, or is on its way."""
        gone = ("succeeded", "processing")
        return sum(
            each.amount
            for each in self.refunds.values()
            if each.payment_id == payment_id and each.state in gone
        )

    def due_refunds(self, now: float) -> list[Refund]:
        """Refunds whose later state is now."""
        return [each for each in self.refunds.values() if each.later and each.due <= now]

    # --- what dialects keep ----------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is entered in the block is one entry: a kill leaves all of it, or nothing."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            self._write(*held)

    def put(self, kind: str, identifier: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Enter a thing as it is now."""
        thing = dict(content)
        self._write(("thing", {"kind": kind, "id": identifier, "content": thing}))
        self.things.setdefault(kind, {})[identifier] = thing
        return thing

    def get(self, kind: str, identifier: str) -> dict[str, Any] | None:
        return self.things.get(kind, {}).get(identifier)

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every thing of a kind, oldest first."""
        return list(self.things.get(kind, {}).values())

    def remember(self, key: str, kept: Kept) -> None:
        """What a key is answered ever after."""
        self._write(("key", {"key": key, **asdict(kept)}))
        self.keys[key] = kept

    # --- notifications -------------------------------------------------------------------

    def post(self, letter: Letter) -> None:
        """Enter a notification to be sent, or another try of one."""
        self._write(("letter", asdict(letter)))
        self.letters[letter.id] = letter

    def delivered(self, letter_id: str) -> None:
        """Strike a notification that arrived, or that nobody will send any more."""
        self._write(("delivered", {"id": letter_id}))
        self.letters.pop(letter_id, None)

    # --- reports ----------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """The books as `GET /books` shows them: every payment, and what was taken by currency."""
        taken: dict[str, dict[str, int]] = {}
        for payment in self.payments.values():
            if payment.state == TAKEN:
                total = taken.setdefault(payment.currency, {"count": 0, "amount": 0})
                total["count"] += 1
                total["amount"] += payment.captured
        payments = [
            {
                "id": each.id,
                "reference": each.reference,
                "amount": each.amount,
                "currency": each.currency,
                "customer": each.customer,
                "method": each.method,
                "state": each.state,
                "decline_code": each.decline_code,
                "taken": each.captured if each.state == TAKEN else 0,
                "refunded": self.refunded(each.id),
            }
            for each in self.payments.values()
        ]
        refunds = [each.render() for each in self.refunds.values()]
        return {"seed": self.seed, "taken": taken, "payments": payments, "refunds": refunds}

    # --- the file ---------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise JournalInUse(f"{path} is another sandbox's journal") from None
        try:
            self._read(path, file)
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def _read(self, path: Path, file: int) -> None:
        whole = 0
        for line in _lines(path):
            whole += len(line)
            entry = json.loads(line)
            kind = entry.pop("entry")
            if kind == "payment":
                self._keep_payment(Payment(**entry))
            elif kind == "refund":
                self.refunds[entry["id"]] = Refund(**entry)
            elif kind == "key":
                key = entry.pop("key")
                self.keys[key] = Kept(**entry)
            elif kind == "thing":
                self.things.setdefault(entry["kind"], {})[entry["id"]] = entry["content"]
            elif kind == "letter":
                self.letters[entry["id"]] = Letter(**entry)
            else:
                self.letters.pop(entry["id"], None)
        # A line that a kill cut short was never answered for, and is no part of the books.
        os.ftruncate(file, whole)

    def _keep_payment(self, payment: Payment) -> None:
        if payment.id not in self.payments:
            self._by_reference.setdefault(payment.reference, []).append(payment.id)
        self.payments[payment.id] = payment
        self._waiting.pop(payment.id, None)
        if payment.later:
            self._waiting[payment.id] = payment

    def _write(self, *entries: tuple[str, Mapping[str, Any]]) -> None:
        if self._held is not None:
            self._held.extend(entries)
            return
        if self._file is None:
            return
        lines = [json.dumps({"entry": kind, **content}) + "\n" for kind, content in entries]
        text = "".join(lines).encode()
        while text:
            text = text[os.write(self._file, text) :]


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line
