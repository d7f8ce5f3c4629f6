"""Chargebee's payments: an invoice for each attempt, noted, and then collected once.

Keys are kept for half an hour only. After that the noted invoice decides: what was paid on it was
paid, and one that nothing was paid on is voided, so that nothing ever will be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from gateway.domain.outcome import DeclineClass, Finding, Outcome
from gateway.providers.chargebee.answers import (
    invoice_of,
    listed,
    read_refusal,
    read_transaction,
    stated,
    transaction_of,
)
from gateway.providers.chargebee.pages import find_by_page
from gateway.providers.chargebee.requests import (
    AUTHORIZATION,
    HOSTED_PAGE,
    INVOICE,
    PAGE,
    PAYMENT,
    get,
    in_path,
    invoice_form,
    is_good,
    post,
    units,
)
from gateway.providers.commands import Cancel, Capture, Charge, Login, Look
from gateway.providers.parsing import (
    answer_time,
    content_of,
    identifier,
    moment,
    strongest,
    text,
    unclear,
    whole,
)
from gateway.providers.plan import (
    CHARGE_SECONDS,
    Answer,
    Plan,
    Reply,
    Steps,
    ask,
    keep,
    read_failure,
    rejected,
)
from kernel.money import Amount

# A key is replayed for twenty minutes, and its request may take one more.
ABANDONED_AFTER = timedelta(minutes=21)
OLDEST_BEFORE = timedelta(days=1)  # invoices older than this before the attempt are not ours
PAGES_MAX = 5
PROCESSING_FAILED = "payment_processing_failed"  # the gateway behind Chargebee said no
_NO_METHOD = "payment_method_not_present"
_TOTAL_DIFFERS = "invoice_total_differs"


@dataclass(frozen=True, slots=True)
class _Collection:
    """What to collect, from where, and under which keys."""

    reference: str
    key: str
    amount: Amount
    customer_id: str
    description: str
    source: Mapping[str, str]  # a stored method, or an authorization
    notes: Mapping[str, str]


def charge(command: Charge, login: Login) -> Plan:
    """Charge a stored method while the customer is away, or reserve on it."""
    customer_id = command.provider_customer_id or command.customer_id
    if command.capture_later:
        return (yield from _authorize(command, customer_id, login))
    source = {"payment_source_id": command.provider_token, "payment_initiator": "merchant"}
    collection = _Collection(
        reference=command.reference,
        key=command.key,
        amount=command.amount,
        customer_id=customer_id,
        description=command.description,
        source=source,
        notes=command.notes,
    )
    return (yield from _collect(collection, login))


def _collect(what: _Collection, login: Login) -> Plan:
    """An invoice, then its collection. With an invoice noted, what was paid on it comes first."""
    invoice_id = what.notes.get(INVOICE, "")
    if invoice_id:
        paid = yield from _payments_of(invoice_id, login)
        if paid.finding is not Finding.ABSENT:
            return paid
    else:
        form = invoice_form(what.amount, what.customer_id, what.description, what.reference)
        path = "/invoices/create_for_charge_items_and_charges"
        reply = yield from ask(post(login, path, form, f"{what.key}-invoice"))
        invoice = invoice_of(reply)
        invoice_id = identifier(invoice)
        if not is_good(reply) or not invoice_id:
            return read_refusal(reply)  # no money can have moved yet
        yield from keep(INVOICE, invoice_id)
        if whole(invoice, "amount_due") != units(what.amount):
            # A tax or a balance of Chargebee's own: not what the customer agreed to.
            yield from _void(invoice_id, what.reference, login)
            return rejected(_TOTAL_DIFFERS)
    form = {**what.source, "amount": str(units(what.amount))}
    path = f"/invoices/{in_path(invoice_id)}/collect_payment"
    reply = yield from ask(post(login, path, form, f"{what.key}-collect", CHARGE_SECONDS))
    if is_good(reply):
        transaction = transaction_of(reply)
        outcome = read_transaction(transaction, known_id=identifier(transaction))
        if outcome.provider_payment_id:
            yield from keep(PAYMENT, outcome.provider_payment_id)
    else:
        outcome = yield from _refused(reply, invoice_id, login)
    if outcome.finding in (Finding.DECLINED, Finding.REJECTED):
        # Nobody shall pay later what is given up here.
        yield from _void(invoice_id, what.reference, login)
    return outcome


def _refused(reply: Reply, invoice_id: str, login: Login) -> Plan:
    """A collection that was answered with an error. Only the transactions tell a decline's code."""
    refusal = read_refusal(reply)
    if not _is_payment_error(reply):
        return refusal
    outcome = yield from _payments_of(invoice_id, login)
    if outcome.finding in (Finding.ABSENT, Finding.SILENCE) and not outcome.provider_payment_id:
        return _payment_error(reply)
    return outcome


def _is_payment_error(reply: Reply) -> bool:
    about = text(content_of(reply), "type")
    return isinstance(reply, Answer) and reply.status == 400 and about == "payment"


def _payment_error(reply: Reply) -> Outcome:
    """What the error itself says. Only one code is documented as the gateway's no."""
    code = text(content_of(reply), "api_error_code")
    if code == PROCESSING_FAILED:
        return Outcome(Finding.DECLINED, decline_code=code, decline_class=DeclineClass.SOFT)
    if code == _NO_METHOD:
        return rejected(code, decline_class=DeclineClass.HARD)
    return unclear(reply)


def _payments_of(invoice_id: str, login: Login) -> Plan:
    """What was paid on an invoice; ABSENT only where a list as documented is empty."""
    path = f"/invoices/{in_path(invoice_id)}/payments"
    reply = yield from ask(get(login, path, {"limit": str(PAGE)}))
    payments = listed(reply, "transaction") if is_good(reply) else None
    if payments is None:
        return unclear(reply)
    return strongest(read_transaction(each, invoice_id=invoice_id) for each in payments)


def _void(invoice_id: str, reference: str, login: Login) -> Steps[Reply]:
    path = f"/invoices/{in_path(invoice_id)}/void"
    form = {"comment": f"Nothing was collected for {reference}"}
    return (yield from ask(post(login, path, form, f"void-{reference}")))


def _authorize(command: Charge, customer_id: str, login: Login) -> Plan:
    form = {
        "customer_id": customer_id,
        "payment_source_id": command.provider_token,
        "currency_code": command.amount.asset.code,
        "amount": str(units(command.amount)),
    }
    path = "/transactions/create_authorization"
    reply = yield from ask(post(login, path, form, command.key, CHARGE_SECONDS))
    if _is_payment_error(reply):
        return _payment_error(reply)
    if not is_good(reply):
        return read_refusal(reply)
    transaction = transaction_of(reply)
    outcome = read_transaction(transaction, known_id=identifier(transaction))
    if outcome.provider_payment_id:
        yield from keep(AUTHORIZATION, outcome.provider_payment_id)
    return outcome


# --- looking --------------------------------------------------------------------------------------


def read(look: Look, login: Login) -> Plan:
    """Look at a transaction by its id."""
    path = f"/transactions/{in_path(look.provider_payment_id)}"
    reply = yield from ask(get(login, path))
    if not is_good(reply):
        return read_failure(reply)
    return read_transaction(transaction_of(reply), known_id=look.provider_payment_id)


def find(look: Look, login: Login) -> Plan:
    """Look for what was paid on the attempt's invoice, noted or named by its `po_number`."""
    if look.capture_later and INVOICE not in look.notes:
        return (yield from _find_authorization(look, login))
    if HOSTED_PAGE in look.notes and INVOICE not in look.notes:
        return (yield from find_by_page(look.notes[HOSTED_PAGE], login))
    invoice_id = look.notes.get(INVOICE, "")
    if not invoice_id:
        found = yield from _search(look, login)
        if isinstance(found, Outcome):
            return found
        invoice_id = found
        yield from keep(INVOICE, invoice_id)
    outcome = yield from _payments_of(invoice_id, login)
    if outcome.finding is not Finding.ABSENT:
        return outcome
    return (yield from _give_up(invoice_id, look.reference, login))


def _search(look: Look, login: Login) -> Steps[str | Outcome]:
    """The id of the invoice that carries our reference; ABSENT where there is none."""
    offset = ""
    for _ in range(PAGES_MAX):
        query = {
            "customer_id[is]": look.provider_customer_id or look.customer_id,
            "sort_by[desc]": "date",
            "limit": str(PAGE),
        }
        reply = yield from ask(
            get(login, "/invoices", query | ({"offset": offset} if offset else {}))
        )
        invoices = listed(reply, "invoice") if is_good(reply) else None
        if invoices is None:
            return unclear(reply)
        for invoice in invoices:
            if invoice.get("po_number") == look.reference and identifier(invoice):
                return identifier(invoice)
        offset = text(content_of(reply), "next_offset")
        if not offset or not invoices:
            return Outcome(Finding.ABSENT)
        oldest = moment(invoices[-1], "date")
        if look.time is not None and oldest is not None and oldest < look.time - OLDEST_BEFORE:
            return Outcome(Finding.ABSENT)
    return Outcome(Finding.SILENCE, detail="more invoices than are compared")


def _give_up(invoice_id: str, reference: str, login: Login) -> Plan:
    """Nothing was paid on an invoice. Once no key can pay it any more, it is voided.

    Its age is taken from the provider's own clock, which is in the answer.
    """
    reply = yield from ask(get(login, f"/invoices/{in_path(invoice_id)}"))
    invoice = invoice_of(reply)
    if not is_good(reply) or identifier(invoice) != invoice_id:
        return unclear(reply)
    status = text(invoice, "status")
    if status == "voided":
        return Outcome(Finding.ABSENT)
    if status == "paid":
        return Outcome(Finding.SILENCE, detail="an invoice that is paid, but by no payment")
    present, changed = answer_time(reply), moment(invoice, "updated_at")
    if present is not None and changed is not None and present - changed >= ABANDONED_AFTER:
        reply = yield from _void(invoice_id, reference, login)
        if not is_good(reply):
            return unclear(reply)
    return Outcome(Finding.ABSENT)


def _find_authorization(look: Look, login: Login) -> Plan:
    """An authorization carries no reference: without its note, absence alone can be told."""
    if noted := look.notes.get(AUTHORIZATION):
        reply = yield from ask(get(login, f"/transactions/{in_path(noted)}"))
        if not is_good(reply):
            return unclear(reply)
        return read_transaction(transaction_of(reply), known_id=noted)
    query = {
        "customer_id[is]": look.provider_customer_id or look.customer_id,
        "type[is]": "authorization",
        "sort_by[desc]": "date",
        "limit": str(PAGE),
    }
    reply = yield from ask(get(login, "/transactions", query))
    made = listed(reply, "transaction") if is_good(reply) else None
    if made is None:
        return unclear(reply)
    if any(stated(each) == look.amount for each in made) or len(made) >= PAGE:
        return Outcome(Finding.SILENCE, detail="an authorization of this amount may be ours")
    return Outcome(Finding.ABSENT)


# --- after the authorization ----------------------------------------------------------------------


def capture(command: Capture, login: Login) -> Plan:
    """Take what an authorization reserved, by the collection of an invoice."""
    path = f"/transactions/{in_path(command.provider_payment_id)}"
    reply = yield from ask(get(login, path))
    if not is_good(reply):
        return read_failure(reply)  # only looked at so far
    authorization = transaction_of(reply)
    known = read_transaction(authorization, known_id=command.provider_payment_id)
    if known.finding is not Finding.AUTHORIZED:
        return known
    collection = _Collection(
        reference=command.reference,
        key=command.key,
        amount=command.amount,
        customer_id=text(authorization, "customer_id"),
        description="",
        source={"authorization_transaction_id": command.provider_payment_id},
        notes=command.notes,
    )
    outcome = yield from _collect(collection, login)
    # To the attempt, its payment stays the authorization, of which this is a part.
    return replace(outcome, provider_payment_id=command.provider_payment_id)


def cancel(command: Cancel, login: Login) -> Plan:
    """Void an authorization."""
    transaction_id = command.provider_payment_id or command.notes.get(AUTHORIZATION, "")
    if not transaction_id:
        return rejected("transaction_unknown")
    path = f"/transactions/{in_path(transaction_id)}"
    reply = yield from ask(post(login, f"{path}/void", {}, command.key))
    if is_good(reply):
        return read_transaction(transaction_of(reply), known_id=transaction_id)
    if not isinstance(reply, Answer) or reply.status not in (400, 404, 409):
        return read_refusal(reply)
    refused = reply
    reply = yield from ask(get(login, path))
    if not is_good(reply):
        return unclear(reply, transaction_id)
    outcome = read_transaction(transaction_of(reply), known_id=transaction_id)
    return read_refusal(refused) if outcome.finding is Finding.AUTHORIZED else outcome
