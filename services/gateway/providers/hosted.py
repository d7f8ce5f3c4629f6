"""A hosted page as an attempt: opening it is the request, and what came of it is the outcome."""

from __future__ import annotations

from gateway.domain.outcome import DeclineClass, Finding, NextAction, Outcome
from gateway.domain.provider_account import Idempotency
from gateway.providers.commands import Login, LookSession, NewSession, Session, SessionState
from gateway.providers.plan import Plan, Provider, keep, rejected

PAGE = "session"  # the name of the note
NOT_ANSWERED = "page_not_answered"

# A person may try again on a page that is open, whatever became of the first try.
_UNDECIDED = frozenset(
    {Finding.DECLINED, Finding.SILENCE, Finding.CANCELED, Finding.REJECTED, Finding.NEEDS_ACTION}
)


def open_page(provider: Provider, command: NewSession, login: Login) -> Plan:
    """Open a page where a person pays."""
    assert provider.create_session is not None, "hosted_pay is declared"
    made = yield from provider.create_session(command, login)
    if isinstance(made, Outcome):
        keyed = provider.capabilities(login).idempotency is Idempotency.KEY
        if made.finding is Finding.SILENCE and not keyed:
            # Nobody was sent there, and nobody will be: it can never be paid.
            return rejected(NOT_ANSWERED, made.detail, DeclineClass.TECHNICAL)
        return made
    yield from keep(PAGE, made.provider_session_id)
    return outcome_of(made)


def look_at_page(provider: Provider, look: LookSession, login: Login) -> Plan:
    """What came of a page."""
    assert provider.read_session is not None, "hosted_pay is declared"
    seen = yield from provider.read_session(look, login)
    return seen if isinstance(seen, Outcome) else outcome_of(seen)


def outcome_of(session: Session) -> Outcome:
    """What a page says about the payment that it is for."""
    paid = session.payment
    match session.state:
        case SessionState.OPEN if paid is None or paid.finding in _UNDECIDED:
            return Outcome(
                Finding.NEEDS_ACTION, action=NextAction(session.url, session.expire_time)
            )
        case SessionState.OPEN | SessionState.COMPLETED:
            return paid or Outcome(Finding.SILENCE, detail="completed, and no payment is shown")
        case SessionState.EXPIRED | SessionState.CANCELED:
            if paid is not None and paid.finding is not Finding.NEEDS_ACTION:
                return paid
            return Outcome(Finding.CANCELED, detail=f"the page is {session.state.value}")
