"""What plans are made of: a plan yields calls and notes, is sent answers, and ends in an outcome.

A provider module is pure. It imports no HTTP client, no event loop and no protobuf, keeps no
state and reads no clock, so a test plays it with scripted answers:

    outcome = play(charge(command, account), Answer(200, {}, b"…"))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

from gateway.domain.outcome import Basis, DeclineClass, Finding, Outcome
from gateway.domain.provider_account import Capabilities
from kernel.money import Amount

CALL_SECONDS = 20.0
CHARGE_SECONDS = 30.0  # banks answer slowly, and a charge given up is a charge to look for


@dataclass(frozen=True, slots=True)
class SecretHandle:
    """Stands for a secret that only the driver can read."""

    name: str


API_SECRET = SecretHandle("api")
NOTIFICATION_SECRET = SecretHandle("notification")


@dataclass(frozen=True, slots=True)
class Bearer:
    """`Authorization: Bearer <secret>`."""

    secret: SecretHandle = API_SECRET


@dataclass(frozen=True, slots=True)
class Basic:
    """HTTP Basic with "user:password" as the secret, or the secret as user and no password."""

    secret: SecretHandle = API_SECRET


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. `path` is joined to the account's endpoint, or is a URL on its origin."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    content: bytes | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, SecretHandle] = field(default_factory=dict)
    auth: Bearer | Basic | None = None
    key: str = ""  # idempotency key; empty: none is sent
    key_header: str = "Idempotency-Key"
    timeout_seconds: float = CALL_SECONDS
    safe_to_repeat: bool = False  # without effect, or with a key that makes it so
    busy_statuses: frozenset[int] = frozenset({409})  # "this key is in use": wait, then replay


@dataclass(frozen=True, slots=True)
class Note:
    """A provider's id of something made on the way; committed before the plan goes on."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider sent back. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body as JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class Phase(Enum):
    BEFORE_SEND = "BEFORE_SEND"  # no byte left: nothing can have happened
    AFTER_SEND = "AFTER_SEND"  # anything can have happened


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer that can be relied on."""

    phase: Phase
    cause: str


Reply: TypeAlias = Answer | Silence
Plan: TypeAlias = Generator[Call | Note, Reply | None, Outcome]


@dataclass(frozen=True, slots=True)
class Login:
    """What a plan may know of the provider account that it speaks for."""

    provider_account_id: UUID
    endpoint: str
    notification_url: str = ""  # where notifications of this account are taken; empty: nowhere


@dataclass(frozen=True, slots=True)
class Charge:
    """Charge a stored method while the customer is away."""

    reference: str  # the attempt's id, ≤ 40 characters of [A-Za-z0-9_-]
    key: str
    amount: Amount
    provider_token: str
    customer_id: str
    description: str
    time: datetime  # the attempt's own; the same in every repeat
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """Look for a payment by the provider's id or by our reference."""

    reference: str
    amount: Amount
    provider_payment_id: str = ""
    customer_id: str = ""
    time: datetime | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a notification tells: unique by id within its provider account."""

    id: str
    kind: str
    reference: str = ""
    provider_payment_id: str = ""
    outcome: Outcome | None = None  # None: of a kind that says nothing about a payment


@dataclass(frozen=True, slots=True)
class Reading:
    """A notification, read. Where it is not authentic, `why` says so and there are no items."""

    authentic: bool
    items: tuple[Item, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as a table of plans. What a capability does not declare is None."""

    name: str
    origins: frozenset[str]  # scheme://host[:port] it may be called at; empty: only as configured
    capabilities: Callable[[Login], Capabilities]
    minor_digits: Callable[[Amount], int]  # decimal places of its own minor unit
    charge: Callable[[Charge, Login], Plan]
    read: Callable[[Look, Login], Plan] | None = None
    find: Callable[[Look, Login], Plan] | None = None
    read_notification: (
        Callable[[Mapping[str, str], bytes, Sequence[bytes], datetime], Reading] | None
    ) = None
    # From a stored body that was authentic when it came, without a look at its signature.
    read_items: Callable[[bytes], tuple[Item, ...]] | None = None
    acknowledgement: tuple[int, bytes] = (200, b"")
    declines: Mapping[str, DeclineClass] = field(default_factory=dict)


def ask(call: Call) -> Generator[Call | Note, Reply | None, Reply]:
    """Yield a call and give back its reply: `reply = yield from ask(Call("GET", …))`."""
    reply = yield call
    assert reply is not None, "the driver answers every call"
    return reply


def keep(name: str, value: str) -> Generator[Call | Note, Reply | None, None]:
    """Yield a note; when this returns, the note is committed."""
    yield Note(name, value)


def read_failure(reply: Reply) -> Outcome:
    """What an answer means that the provider's module has no word for. Doubt is SILENCE."""
    if isinstance(reply, Silence):
        if reply.phase is Phase.BEFORE_SEND:
            return _rejected(Basis.NOT_SENT, reply.cause)
        return Outcome(Finding.SILENCE, detail=reply.cause)
    detail = f"HTTP {reply.status}"
    if reply.status == 429:
        return _rejected(Basis.THROTTLED, detail)
    if reply.status in (401, 403):
        return _rejected(Basis.ACCESS, detail)
    if reply.status in (400, 404, 422):
        return _rejected(Basis.UNEXPLAINED, detail)
    return Outcome(Finding.SILENCE, detail=detail)


def _rejected(basis: Basis, detail: str) -> Outcome:
    """A request that had no effect, for a reason that is not the payment's own."""
    passing = basis in (Basis.NOT_SENT, Basis.THROTTLED)
    return Outcome(
        Finding.REJECTED,
        decline_code=basis.value,
        decline_class=DeclineClass.TECHNICAL if passing else None,
        basis=basis,
        retryable=passing,
        detail=detail,
    )


def play(plan: Plan, *replies: Reply) -> Outcome:
    """Run a plan against scripted replies, one for each call; notes are passed over.

    Raises ValueError where the script and the plan's calls do not match in number.
    """
    script = iter(replies)
    send: Reply | None = None
    while True:
        try:
            step = plan.send(send)
        except StopIteration as end:
            if next(script, None) is not None:
                raise ValueError("the plan ended before the script did") from None
            outcome: Outcome = end.value
            return outcome
        send = None
        if isinstance(step, Call):
            send = next(script, None)
            if send is None:
                raise ValueError(f"the script has no reply for {step.method} {step.path}")
