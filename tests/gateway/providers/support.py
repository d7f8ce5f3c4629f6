"""Plans played with scripted answers, and where the published descriptions are."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from gateway.domain.outcome import Basis, Finding, Outcome
from gateway.providers.commands import Contact, NewCustomer, NewSession, SessionMode
from gateway.providers.plan import (
    Answer,
    Call,
    Cancel,
    Capture,
    Charge,
    Delivery,
    Login,
    Look,
    LookRefund,
    Note,
    Phase,
    Provider,
    Refund,
    Reply,
    Silence,
    Steps,
)
from kernel.money import Amount, Asset

T = TypeVar("T")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REFERENCE = "0195500b-1234-7abc-8def-0123456789ab"
REFUND_REFERENCE = "0195500b-9999-7abc-8def-0123456789ab"
KEY = "4f0a6c1e-2a57-4a3e-9f11-0d3b6f2a9c55"
SPECS = Path(__file__).resolve().parents[4] / "shared" / "specs"

LOST = Silence(Phase.AFTER_SEND, "ReadTimeout")
UNSENT = Silence(Phase.BEFORE_SEND, "ConnectError")
# Whatever may come instead of an answer, and says nothing about what became of a request.
NOTHING_SAID = (
    LOST,
    Answer(500),
    Answer(503),
    Answer(408),
    Answer(200),
    Answer(200, {}, b"[]"),
    Answer(200, {}, b'{"truncat'),
    Answer(302),
)


def spec(name: str) -> Path:
    """A published description; the test is skipped where this machine has none."""
    path = SPECS / name
    if not path.exists():
        pytest.skip(f"the published description {name} is not beside this checkout")
    return path


def answer(status: int, content: object, time: datetime | None = None) -> Answer:
    headers = {"date": format_datetime(time, usegmt=True)} if time else {}
    return Answer(status, headers, json.dumps(content).encode())


@dataclass
class Told(Generic[T]):
    """What a plan came to, the calls it made and the notes it left."""

    result: T
    calls: list[Call] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    # Notes that were committed when each call left.
    noted_at: list[dict[str, str]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [f"{call.method} {call.path}" for call in self.calls]


def told(plan: Steps[T], *replies: Reply) -> Told[T]:
    """Play a plan against a script that must fit it exactly."""
    script = list(replies)
    calls: list[Call] = []
    notes: dict[str, str] = {}
    noted_at: list[dict[str, str]] = []
    send: Reply | None = None
    while True:
        try:
            step = plan.send(send)
        except StopIteration as end:
            assert not script, f"{len(script)} replies were never asked for"
            return Told(end.value, calls, notes, noted_at)
        send = None
        if isinstance(step, Note):
            notes[step.name] = step.value
        else:
            calls.append(step)
            noted_at.append(dict(notes))
            assert script, f"no reply for {step.method} {step.path}"
            send = script.pop(0)


def inr(paise: int) -> Amount:
    return Amount(Asset("INR", 2), paise)


def usd(cents: int) -> Amount:
    return Amount(Asset("USD", 2), cents)


def login(endpoint: str) -> Login:
    return Login(uuid.UUID(int=1), endpoint)


def charge_command(amount: Amount, token: str, **changes: Any) -> Charge:
    command = Charge(
        reference=REFERENCE,
        key=KEY,
        amount=amount,
        provider_token=token,
        customer_id="ada",
        description="March",
        time=NOW,
        contact=Contact("Ada", "ada@example.com", "+919999999999"),
    )
    return replace(command, **changes)


def look(amount: Amount, **changes: Any) -> Look:
    return replace(Look(REFERENCE, amount, customer_id="ada", time=NOW), **changes)


def capture_command(amount: Amount, payment_id: str, **changes: Any) -> Capture:
    return replace(Capture(REFERENCE, KEY, amount, amount, payment_id), **changes)


def cancel_command(amount: Amount, payment_id: str, **changes: Any) -> Cancel:
    return replace(Cancel(REFERENCE, KEY, amount, payment_id), **changes)


def refund_command(amount: Amount, captured: Amount, payment_id: str, **changes: Any) -> Refund:
    command = Refund(
        reference=REFUND_REFERENCE,
        key=KEY,
        amount=amount,
        provider_payment_id=payment_id,
        payment_reference=REFERENCE,
        captured=captured,
        refunded_before=Amount(amount.asset, 0),
        reason="asked for",
        time=NOW,
    )
    return replace(command, **changes)


def look_refund(amount: Amount, payment_id: str, **changes: Any) -> LookRefund:
    return replace(LookRefund(REFUND_REFERENCE, amount, payment_id, time=NOW), **changes)


def customer_command(**changes: Any) -> NewCustomer:
    command = NewCustomer("ada", KEY, Contact("Ada", "ada@example.com", "+919999999999"))
    return replace(command, **changes)


def session_command(mode: SessionMode, amount: Amount, **changes: Any) -> NewSession:
    command = NewSession(
        mode=mode,
        reference=REFERENCE,
        key=KEY,
        customer_id="ada",
        return_url="https://shop.example/back",
        amount=amount,
        description="March",
        time=NOW,
        contact=Contact("Ada", "ada@example.com", "+919999999999"),
    )
    return replace(command, **changes)


def delivery(headers: Mapping[str, str], body: bytes, *secrets: bytes) -> Delivery:
    return Delivery(headers, body, secrets, NOW)


def outcome_of(result: object) -> Outcome:
    assert isinstance(result, Outcome), result
    return result


def declared_and_offered_agree(provider: Provider) -> None:
    """What a provider declares it has a plan for, and nothing else."""
    offers = provider.capabilities(login(provider.endpoint or "https://acme.example"))
    pairs = {
        "read_by_id": (offers.read_by_id, provider.read),
        "lookup": (offers.lookup.value != "NONE", provider.find),
        "capture": (offers.manual_capture, provider.capture),
        "cancel": (offers.cancel, provider.cancel),
        "refund": (offers.refund, provider.refund),
        "refund_read_by_id": (offers.refund_read_by_id, provider.read_refund),
        "refund_lookup": (offers.refund_lookup.value != "NONE", provider.find_refund),
        "customer_object": (offers.customer_object, provider.create_customer),
        "hosted": (offers.hosted_pay or offers.hosted_setup, provider.create_session),
        "list_changes": (offers.list_changes, provider.list_changes),
        "payout_lines": (offers.payout_lines, provider.list_payout_lines),
        "notifications": (offers.notification_auth.value != "NONE", provider.read_notification),
    }
    assert {name for name, (flag, plan) in pairs.items() if flag is not (plan is not None)} == set()


def says_nothing(outcome: Outcome) -> bool:
    """Whether an outcome leaves a question open, whoever asked it."""
    return outcome.finding is Finding.SILENCE and outcome.basis is Basis.STATED
