"""What plans are made of: a plan yields calls and notes, is sent answers, and ends in an outcome.

A provider module is pure. It imports no HTTP client, no event loop and no protobuf, keeps no
state and reads no clock, so a test plays it with scripted answers:

    outcome = play(charge(command, account), Answer(200, {}, b"…"))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from gateway.domain.outcome import Basis, DeclineClass, Finding, Outcome
from gateway.domain.provider_account import Capabilities
from gateway.providers.commands import (
    Cancel,
    Capture,
    Changes,
    Charge,
    CustomerLink,
    CustomerMethods,
    Delivery,
    Detach,
    Item,
    Login,
    Look,
    LookRefund,
    LookSession,
    NewCustomer,
    NewSession,
    PayoutLines,
    Reading,
    Refund,
    Session,
    Since,
    StoredMethod,
)
from kernel.money import Amount

__all__ = [
    "API_SECRET",
    "CALL_SECONDS",
    "CHARGE_SECONDS",
    "NOTIFICATION_SECRET",
    "Answer",
    "Asked",
    "Basic",
    "Bearer",
    "Call",
    "Cancel",
    "Capture",
    "Charge",
    "Delivery",
    "Item",
    "Login",
    "Look",
    "LookRefund",
    "Note",
    "Phase",
    "Plan",
    "Provider",
    "Reading",
    "Refund",
    "Reply",
    "SecretHandle",
    "Silence",
    "Steps",
    "Target",
    "ask",
    "keep",
    "play",
    "read_failure",
    "rejected",
]

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


T = TypeVar("T")
Reply: TypeAlias = Answer | Silence
Steps: TypeAlias = Generator[Call | Note, Reply | None, T]
Plan: TypeAlias = Steps[Outcome]
# A plan for something other than a payment: the thing itself, or why it was not to be had.
Asked: TypeAlias = Steps[T | Outcome]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a provider that serves the contract answers: "host:port" with TLS files, or
    "unix:<path>", and "host:port" without any on loopback only."""

    address: str
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""  # what its certificate says, where that is not the host


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as a table of plans. What its capabilities do not declare is None.

    `origins` are scheme://host[:port]; a "*" stands for letters, digits and "-" within one label,
    where each merchant has a host of its own. Empty: only as the deployment configures it.
    """

    name: str
    origins: frozenset[str]
    capabilities: Callable[[Login], Capabilities]
    # An amount in the provider's own minor units; raises AmountNotRepresentable.
    units: Callable[[Amount], int]
    charge: Callable[[Charge, Login], Plan]
    endpoint: str = ""  # where it answers unless its account says otherwise; empty: must be said
    read: Callable[[Look, Login], Plan] | None = None
    find: Callable[[Look, Login], Plan] | None = None
    capture: Callable[[Capture, Login], Plan] | None = None
    cancel: Callable[[Cancel, Login], Plan] | None = None
    refund: Callable[[Refund, Login], Plan] | None = None
    read_refund: Callable[[LookRefund, Login], Plan] | None = None
    find_refund: Callable[[LookRefund, Login], Plan] | None = None
    create_customer: Callable[[NewCustomer, Login], Asked[CustomerLink]] | None = None
    create_session: Callable[[NewSession, Login], Asked[Session]] | None = None
    read_session: Callable[[LookSession, Login], Asked[Session]] | None = None
    list_methods: Callable[[CustomerMethods, Login], Asked[tuple[StoredMethod, ...]]] | None = None
    detach_method: Callable[[Detach, Login], Plan] | None = None  # CANCELED: it is gone
    list_changes: Callable[[Since, Login], Asked[Changes]] | None = None
    list_payout_lines: Callable[[Since, Login], Asked[PayoutLines]] | None = None
    read_notification: Callable[[Delivery, Login], Reading] | None = None
    # From a stored body that was authentic when it came, without a look at its signature.
    read_items: Callable[[bytes], tuple[Item, ...]] | None = None
    # Instead of the two above, where somebody else must be asked to read: a plan.
    ask_reading: Callable[[Delivery, Login], Asked[Reading]] | None = None
    target: Target | None = None  # where it is called by the contract; None: over HTTP
    acknowledgement: tuple[int, bytes] = (200, b"")
    refusal_status: int = 401  # what a notification that is not authentic is answered
    declines: Mapping[str, DeclineClass] = field(default_factory=dict)
    numeric_tokens: bool = False  # its method tokens are bare numbers, as cards' are


def ask(call: Call) -> Steps[Reply]:
    """Yield a call and give back its reply: `reply = yield from ask(Call("GET", …))`."""
    reply = yield call
    assert reply is not None, "the driver answers every call"
    return reply


def keep(name: str, value: str) -> Steps[None]:
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


def rejected(code: str, detail: str = "", decline_class: DeclineClass | None = None) -> Outcome:
    """A request that the provider refused for a reason of its own: it had no effect."""
    return Outcome(
        Finding.REJECTED, decline_code=code, decline_class=decline_class, detail=detail or code
    )


def play(plan: Steps[T], *replies: Reply) -> T:
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
            result: T = end.value
            return result
        send = None
        if isinstance(step, Call):
            send = next(script, None)
            if send is None:
                raise ValueError(f"the script has no reply for {step.method} {step.path}")
