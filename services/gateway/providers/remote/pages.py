"""Customers, hosted pages, stored methods, and lists of what happened, by the contract."""

from __future__ import annotations

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import (
    Changes,
    CustomerLink,
    CustomerMethods,
    Detach,
    Login,
    LookSession,
    NewCustomer,
    NewSession,
    PayoutLines,
    Session,
    SessionMode,
    Since,
    StoredMethod,
)
from gateway.providers.plan import CHARGE_SECONDS, Asked, Plan
from gateway.providers.remote import wire
from gateway.providers.remote.requests import ask_for
from tollgate.gateway.provider.v1 import provider_pb2
from tollgate.gateway.provider.v1 import provider_service_pb2 as pb

_MODES = {
    SessionMode.PAY: provider_pb2.SESSION_MODE_PAY,
    SessionMode.SETUP: provider_pb2.SESSION_MODE_SETUP,
}


def create_customer(command: NewCustomer, login: Login) -> Asked[CustomerLink]:
    """Make the provider's own record of a customer."""
    request = pb.CreateCustomerRequest(
        login=wire.render_login(login),
        idempotency_key=command.key,
        customer_id=command.customer_id,
        contact=wire.render_contact(command.contact),
    )
    told = yield from ask_for("CreateCustomer", request, pb.CreateCustomerResponse)
    if isinstance(told, Outcome):
        return told
    if told.HasField("failure"):
        return wire.read_outcome(told.failure, "")
    if not 0 < len(told.provider_customer_id) <= wire.ID_CHARACTERS_MAX:
        return Outcome(Finding.SILENCE, detail="a customer without an id")
    return CustomerLink(told.provider_customer_id)


def create_session(command: NewSession, login: Login) -> Asked[Session]:
    """Open a page where a person pays or stores a method."""
    request = pb.CreateSessionRequest(
        login=wire.render_login(login),
        idempotency_key=command.key,
        reference=command.reference,
        mode=_MODES[command.mode],
        customer_id=command.customer_id,
        provider_customer_id=command.provider_customer_id,
        return_url=command.return_url,
        amount=wire.render_amount(command.amount),
        description=command.description,
        expire_time=wire.render_time(command.expire_time),
        country=command.country,
        contact=wire.render_contact(command.contact),
    )
    told = yield from ask_for(
        "CreateSession", request, pb.CreateSessionResponse, seconds=CHARGE_SECONDS
    )
    if isinstance(told, Outcome):
        return told
    return _session(told, command.reference)


def read_session(look: LookSession, login: Login) -> Asked[Session]:
    """Look at a session by the provider's id."""
    request = pb.GetSessionRequest(
        login=wire.render_login(login),
        reference=look.reference,
        provider_session_id=look.provider_session_id,
        mode=_MODES[look.mode],
    )
    told = yield from ask_for("GetSession", request, pb.GetSessionResponse)
    if isinstance(told, Outcome):
        return told
    return _session(told, look.reference)


def _session(
    told: pb.CreateSessionResponse | pb.GetSessionResponse, reference: str
) -> Session | Outcome:
    if told.HasField("failure"):
        return wire.read_outcome(told.failure, "")
    session = wire.read_session(told.session, reference)
    return session or Outcome(Finding.SILENCE, detail="a session that is not of the contract")


def list_methods(command: CustomerMethods, login: Login) -> Asked[tuple[StoredMethod, ...]]:
    """A customer's stored methods."""
    request = pb.ListPaymentMethodsRequest(
        login=wire.render_login(login),
        customer_id=command.customer_id,
        provider_customer_id=command.provider_customer_id,
    )
    told = yield from ask_for("ListPaymentMethods", request, pb.ListPaymentMethodsResponse)
    if isinstance(told, Outcome):
        return told
    if told.HasField("failure"):
        return wire.read_outcome(told.failure, "")
    read = (wire.read_method(each) for each in told.payment_methods)
    return tuple(method for method in read if method is not None)


def detach_method(command: Detach, login: Login) -> Plan:
    """Forget a stored method."""
    request = pb.DetachPaymentMethodRequest(
        login=wire.render_login(login),
        idempotency_key=command.key,
        provider_token=command.provider_token,
        provider_customer_id=command.provider_customer_id,
    )
    told = yield from ask_for("DetachPaymentMethod", request, pb.DetachPaymentMethodResponse)
    return told if isinstance(told, Outcome) else wire.read_outcome(told.outcome, "")


def list_changes(since: Since, login: Login) -> Asked[Changes]:
    """What happened since a time."""
    request = pb.ListChangesRequest(
        login=wire.render_login(login),
        since=wire.render_time(since.time),
        page_token=since.page_token,
    )
    told = yield from ask_for("ListChanges", request, pb.ListChangesResponse)
    if isinstance(told, Outcome):
        return told
    if told.HasField("failure"):
        return wire.read_outcome(told.failure, "")
    read = (wire.read_item(each) for each in told.items)
    return Changes(tuple(item for item in read if item is not None), told.next_page_token)


def list_payout_lines(since: Since, login: Login) -> Asked[PayoutLines]:
    """The lines that explain payouts; a page with a line that is none is not believed at all."""
    request = pb.ListPayoutLinesRequest(
        login=wire.render_login(login),
        since=wire.render_time(since.time),
        provider_payout_id=since.provider_payout_id,
        page_token=since.page_token,
    )
    told = yield from ask_for("ListPayoutLines", request, pb.ListPayoutLinesResponse)
    if isinstance(told, Outcome):
        return told
    if told.HasField("failure"):
        return wire.read_outcome(told.failure, "")
    lines = tuple(line for each in told.lines if (line := wire.read_line(each)) is not None)
    if len(lines) != len(told.lines):
        return Outcome(Finding.SILENCE, detail="a payout line that does not add up")
    return PayoutLines(lines, told.next_page_token)
