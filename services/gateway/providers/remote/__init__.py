"""A provider that a process of the operator's own serves: the contract's calls as plans.

Each plan is one unary call, or a few where the provider takes several steps and asks for notes to
be kept between them. What is not answered is a silence like any other; the far side's word is
believed only where it is of the contract, and about what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from google.protobuf.message import Message

from gateway.domain.currency import to_provider_units
from gateway.domain.outcome import Finding, Outcome
from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.commands import (
    Cancel,
    Capture,
    Charge,
    Delivery,
    Login,
    Look,
    LookRefund,
    Reading,
    Refund,
)
from gateway.providers.plan import (
    CALL_SECONDS,
    CHARGE_SECONDS,
    Asked,
    Plan,
    Provider,
    Steps,
    Target,
    ask,
    keep,
)
from gateway.providers.remote import wire
from gateway.providers.remote.pages import (
    create_customer,
    create_session,
    detach_method,
    list_changes,
    list_methods,
    list_payout_lines,
    read_session,
)
from gateway.providers.remote.requests import ask_for, to
from kernel.money import Amount
from tollgate.gateway.provider.v1 import provider_service_pb2 as pb

STEPS_MAX = 8  # of one operation; a provider that wants more is not one that was thought of
NOTES_MAX = 16


def offered() -> Asked[pb.GetCapabilitiesResponse]:
    """Ask a provider what it offers."""
    reply = yield from ask(to("GetCapabilities", pb.GetCapabilitiesRequest()))
    return wire.parse(reply, pb.GetCapabilitiesResponse)


def provider_of(name: str, target: Target, offers: pb.GetCapabilitiesResponse) -> Provider:
    """The provider as a table of plans: what it declares, and nothing else."""
    told = offers.capabilities
    able = wire.read_capabilities(told)
    digits = dict(told.minor_digits)

    def units(amount: Amount) -> int:
        return to_provider_units(amount, digits.get(amount.asset.code, amount.asset.scale))

    hosted = able.hosted_pay or able.hosted_setup
    signs = able.notification_auth is not NotificationAuth.NONE
    plans = _Plans(able)
    return Provider(
        name=name,
        origins=frozenset(),
        target=target,
        capabilities=lambda login: able,
        units=units,
        charge=plans.charge,
        read=read if able.read_by_id else None,
        find=find if able.lookup is not Lookup.NONE else None,
        capture=plans.capture if able.manual_capture else None,
        cancel=plans.cancel if able.cancel else None,
        refund=plans.refund if able.refund else None,
        read_refund=read_refund if able.refund_read_by_id else None,
        find_refund=find_refund if able.refund_lookup is not Lookup.NONE else None,
        create_customer=create_customer if able.customer_object else None,
        create_session=create_session if hosted else None,
        read_session=read_session if hosted else None,
        list_methods=list_methods if told.list_methods else None,
        detach_method=detach_method if told.detach_method else None,
        list_changes=list_changes if able.list_changes else None,
        list_payout_lines=list_payout_lines if able.payout_lines else None,
        ask_reading=read_notification if signs else None,
    )


class _Plans:
    """The plans that move money, which a key may make safe to repeat."""

    def __init__(self, able: Capabilities) -> None:
        self._keyed = able.idempotency is Idempotency.KEY
        self._refund_keyed = able.refund_idempotency is Idempotency.KEY

    def charge(self, command: Charge, login: Login) -> Plan:
        """Charge a stored method while the customer is away."""

        def request(notes: Mapping[str, str]) -> pb.ChargeRequest:
            return pb.ChargeRequest(
                login=wire.render_login(login),
                idempotency_key=command.key,
                reference=command.reference,
                amount=wire.render_amount(command.amount),
                provider_token=command.provider_token,
                customer_id=command.customer_id,
                provider_customer_id=command.provider_customer_id,
                description=command.description,
                capture_later=command.capture_later,
                time=wire.render_time(command.time),
                notes=notes,
            )

        return _operate(
            "Charge", request, pb.ChargeResponse, command.notes, command.reference, self._keyed
        )

    def capture(self, command: Capture, login: Login) -> Plan:
        """Take what was reserved, or a part of it."""

        def request(notes: Mapping[str, str]) -> pb.CaptureRequest:
            return pb.CaptureRequest(
                login=wire.render_login(login),
                idempotency_key=command.key,
                reference=command.reference,
                amount=wire.render_amount(command.amount),
                authorized=wire.render_amount(command.authorized),
                provider_payment_id=command.provider_payment_id,
                notes=notes,
            )

        return _operate(
            "Capture", request, pb.CaptureResponse, command.notes, command.reference, self._keyed
        )

    def cancel(self, command: Cancel, login: Login) -> Plan:
        """Call a payment off before its money is taken."""

        def request(notes: Mapping[str, str]) -> pb.CancelRequest:
            return pb.CancelRequest(
                login=wire.render_login(login),
                idempotency_key=command.key,
                reference=command.reference,
                amount=wire.render_amount(command.amount),
                provider_payment_id=command.provider_payment_id,
                notes=notes,
            )

        return _operate(
            "Cancel", request, pb.CancelResponse, command.notes, command.reference, self._keyed
        )

    def refund(self, command: Refund, login: Login) -> Plan:
        """Send money back."""

        def request(notes: Mapping[str, str]) -> pb.RefundRequest:
            return pb.RefundRequest(
                login=wire.render_login(login),
                idempotency_key=command.key,
                reference=command.reference,
                amount=wire.render_amount(command.amount),
                provider_payment_id=command.provider_payment_id,
                payment_reference=command.payment_reference,
                captured=wire.render_amount(command.captured),
                refunded_before=wire.render_amount(command.refunded_before),
                reason=command.reason,
                notes=notes,
            )

        keyed = self._refund_keyed
        return _operate(
            "Refund", request, pb.RefundResponse, command.notes, command.reference, keyed
        )


Operated = pb.ChargeResponse | pb.CaptureResponse | pb.CancelResponse | pb.RefundResponse
Answered = TypeVar(
    "Answered", pb.ChargeResponse, pb.CaptureResponse, pb.CancelResponse, pb.RefundResponse
)


def _operate(
    method: str,
    request: Callable[[Mapping[str, str]], Message],
    answer: type[Answered],
    kept: Mapping[str, str],
    reference: str,
    keyed: bool,
) -> Plan:
    """Ask, keep the notes, and ask again while the provider says that it goes on."""
    notes = dict(kept)
    for _ in range(STEPS_MAX):
        call = to(method, request(notes), seconds=CHARGE_SECONDS, repeatable=keyed)
        told = wire.parse((yield from ask(call)), answer)
        if isinstance(told, Outcome):
            return told
        yield from _keep(told, notes)
        if not told.goes_on:
            return _after_sending(wire.read_outcome(told.outcome, reference))
    return Outcome(Finding.SILENCE, detail=f"not done after {STEPS_MAX} steps")


def _keep(told: Operated, notes: dict[str, str]) -> Steps[None]:
    for name, value in list(told.notes_to_keep.items())[:NOTES_MAX]:
        short = len(name) <= wire.ID_CHARACTERS_MAX and len(value) <= wire.ID_CHARACTERS_MAX
        if short and notes.get(name) != value:
            notes[name] = value
            yield from keep(name, value)


def _after_sending(outcome: Outcome) -> Outcome:
    """What was just asked for cannot be absent; that is an answer to another question."""
    if outcome.finding is Finding.ABSENT:
        return Outcome(Finding.SILENCE, detail="answered ABSENT to a request")
    return outcome


def read(look: Look, login: Login) -> Plan:
    """Look at a payment by its id."""
    request = pb.GetPaymentRequest(
        login=wire.render_login(login),
        reference=look.reference,
        provider_payment_id=look.provider_payment_id,
    )
    told = yield from ask_for("GetPayment", request, pb.GetPaymentResponse)
    if isinstance(told, Outcome):
        return told
    return _after_sending(wire.read_outcome(told.outcome, look.reference))


def find(look: Look, login: Login) -> Plan:
    """Look for a payment by our reference."""
    request = pb.FindPaymentRequest(
        login=wire.render_login(login),
        reference=look.reference,
        customer_id=look.customer_id,
        provider_customer_id=look.provider_customer_id,
        provider_token=look.provider_token,
        notes=look.notes,
    )
    told = yield from ask_for("FindPayment", request, pb.FindPaymentResponse)
    return told if isinstance(told, Outcome) else wire.read_outcome(told.outcome, look.reference)


def read_refund(look: LookRefund, login: Login) -> Plan:
    """Look at a refund by its id."""
    request = pb.GetRefundRequest(
        login=wire.render_login(login),
        reference=look.reference,
        provider_payment_id=look.provider_payment_id,
        provider_refund_id=look.provider_refund_id,
    )
    told = yield from ask_for("GetRefund", request, pb.GetRefundResponse)
    if isinstance(told, Outcome):
        return told
    return _after_sending(wire.read_outcome(told.outcome, look.reference))


def find_refund(look: LookRefund, login: Login) -> Plan:
    """Look for a refund by our reference."""
    request = pb.FindRefundRequest(
        login=wire.render_login(login),
        reference=look.reference,
        provider_payment_id=look.provider_payment_id,
        notes=look.notes,
    )
    told = yield from ask_for("FindRefund", request, pb.FindRefundResponse)
    return told if isinstance(told, Outcome) else wire.read_outcome(told.outcome, look.reference)


def read_notification(delivery: Delivery, login: Login) -> Asked[Reading]:
    """Have a notification checked and read by who knows its secret."""
    request = pb.ReadNotificationRequest(
        login=wire.render_login(login),
        headers=delivery.headers,
        body=delivery.body,
        now=wire.render_time(delivery.now),
        verified=delivery.verified,
    )
    told = yield from ask_for(
        "ReadNotification", request, pb.ReadNotificationResponse, seconds=READING_SECONDS
    )
    if isinstance(told, Outcome):
        return told
    items = tuple(item for each in told.items if (item := wire.read_item(each)) is not None)
    status = told.answer_status if 200 <= told.answer_status <= 599 else 0
    body = bytes(told.answer_body[:1024])
    if not told.authentic:
        return Reading(False, why=told.why[:200] or "not authentic", status=status, body=body)
    return Reading(True, items, status=status, body=body)


READING_SECONDS = min(2.0, CALL_SECONDS)  # the sender of a notification waits for no more than 3 s

__all__ = ["offered", "provider_of"]
