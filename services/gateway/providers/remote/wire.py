"""The contract's messages and the plans' words, each read as the other; doubt reads as SILENCE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.domain.outcome import DeclineClass, Finding, NextAction, Outcome
from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.commands import (
    About,
    Contact,
    Dispute,
    DisputeStage,
    Item,
    LineKind,
    Login,
    PayoutLine,
    Session,
    SessionState,
    StoredMethod,
)
from gateway.providers.plan import Answer, Reply, read_failure
from kernel.currency import MINOR_DIGITS
from kernel.errors import InvalidValue
from kernel.money import Amount, Asset, parse_atoms
from tollgate.gateway.provider.v1 import provider_pb2 as pb
from tollgate.type.v1 import amount_pb2

ID_CHARACTERS_MAX = 200
KEY_WINDOW_MAX = timedelta(days=400)
VISIBILITY_MAX = timedelta(days=7)
PAYOUT_SCALE = 8  # decimal places of fees: some providers keep fractions of a cent
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")

M = TypeVar("M", bound=Message)

# Findings that say something about money need to say whose, and of what id.
_ABOUT_AN_OBJECT = frozenset({Finding.AUTHORIZED, Finding.SUCCEEDED, Finding.REVERSED})


def parse(reply: Reply, kind: type[M]) -> M | Outcome:
    """The message of an answer; what its failure means where there is none."""
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    try:
        return kind.FromString(reply.body)
    except DecodeError:
        return Outcome(Finding.SILENCE, detail="an answer that is not of the contract")


def read_outcome(told: pb.Outcome, reference: str) -> Outcome:
    """An outcome; one of another reference, or of an unknown finding, says nothing."""
    finding = _member(pb.Finding, told.finding, Finding, Finding.SILENCE)
    if finding in (Finding.SILENCE, Finding.ABSENT):
        return Outcome(finding, detail=told.detail[:200])
    if reference and told.reference != reference:
        return Outcome(Finding.SILENCE, detail="an outcome of another reference")
    ids = [told.provider_payment_id, told.provider_refund_id]
    if not all(_ID.fullmatch(each) for each in ids if each):
        return Outcome(Finding.SILENCE, detail="an id that is none")
    stated = read_amount(told.amount) if told.HasField("amount") else None
    if finding in _ABOUT_AN_OBJECT and (not any(ids) or stated is None or stated.atoms <= 0):
        return Outcome(Finding.SILENCE, ids[0], ids[1], detail="money without an id or an amount")
    refused = finding in (Finding.DECLINED, Finding.REJECTED)
    unclassed = DeclineClass.SOFT if finding is Finding.DECLINED else None
    action = None
    if finding is Finding.NEEDS_ACTION and told.action_url.startswith(("https://", "http://")):
        action = NextAction(told.action_url, read_time(told, "action_expire_time"))
    return Outcome(
        finding,
        provider_payment_id=ids[0],
        provider_refund_id=ids[1],
        stated=stated,
        decline_code=told.decline_code[:64] if refused else "",
        decline_class=_member(pb.DeclineClass, told.decline_class, DeclineClass, unclassed)
        if refused
        else None,
        action=action,
        detail=told.detail[:200],
        # Of a refund: one that was told to have succeeded may come back as declined.
        undoes_success=finding is Finding.DECLINED and bool(told.provider_refund_id),
    )


def read_session(told: pb.Session, reference: str) -> Session | None:
    """A session; None where it is not as the contract says."""
    state = _member(pb.SessionState, told.state, SessionState, None)
    if state is None or not _ID.fullmatch(told.provider_session_id):
        return None
    return Session(
        provider_session_id=told.provider_session_id,
        state=state,
        url=told.url if told.url.startswith(("https://", "http://")) else "",
        expire_time=read_time(told, "expire_time"),
        provider_customer_id=told.provider_customer_id[:ID_CHARACTERS_MAX],
        payment=read_outcome(told.payment, reference) if told.HasField("payment") else None,
        method=read_method(told.method) if told.HasField("method") else None,
    )


def read_method(told: pb.StoredMethod) -> StoredMethod | None:
    """A stored method; None where it has no token."""
    if not 0 < len(told.provider_token) <= 255:
        return None
    dated = 2000 <= told.expire_year <= 9999 and 1 <= told.expire_month <= 12
    return StoredMethod(
        provider_token=told.provider_token,
        kind=told.kind[:64],
        usable=told.usable,
        provider_customer_id=told.provider_customer_id[:ID_CHARACTERS_MAX],
        customer_id=told.customer_id[:128],
        brand=told.brand[:64],
        last_four=told.last_four[-4:],
        expire_year=told.expire_year if dated else 0,
        expire_month=told.expire_month if dated else 0,
        replaced_by=told.replaced_by[:255],
        state=told.state[:64],
    )


def read_item(told: pb.Item) -> Item | None:
    """One thing that is told; None where it has no id or no kind."""
    if not 0 < len(told.id) <= ID_CHARACTERS_MAX or not told.kind:
        return None
    return Item(
        told.id,
        told.kind[:100],
        reference=told.reference[:40],
        provider_payment_id=told.provider_payment_id[:ID_CHARACTERS_MAX],
        outcome=read_outcome(told.outcome, told.reference) if told.HasField("outcome") else None,
        about=_member(pb.About, told.about, About, About.OTHER),
        object_id=told.object_id[:ID_CHARACTERS_MAX],
        dispute=_read_dispute(told.dispute) if told.HasField("dispute") else None,
        method=read_method(told.method) if told.HasField("method") else None,
        time=read_time(told, "time"),
    )


def _read_dispute(told: pb.Dispute) -> Dispute:
    return Dispute(
        provider_dispute_id=told.provider_dispute_id[:ID_CHARACTERS_MAX],
        stage=_member(pb.DisputeStage, told.stage, DisputeStage, None),
        amount=read_amount(told.amount) if told.HasField("amount") else None,
        reason=told.reason[:100],
        respond_by=read_time(told, "respond_by"),
        funds=told.funds if told.funds in ("withdrawn", "reinstated") else "",
    )


def read_line(told: pb.PayoutLine) -> PayoutLine | None:
    """A payout line; None where an amount is none or does not add up."""
    amounts = [read_amount(each, PAYOUT_SCALE) for each in (told.gross, told.fee, told.net)]
    gross, fee, net = amounts
    if not told.id or gross is None or fee is None or net is None:
        return None
    if not gross.asset == fee.asset == net.asset or gross - fee != net:
        return None
    return PayoutLine(
        id=told.id[:ID_CHARACTERS_MAX],
        provider_payout_id=told.provider_payout_id[:ID_CHARACTERS_MAX],
        kind=_member(pb.LineKind, told.kind, LineKind, LineKind.ADJUSTMENT),
        gross=gross,
        fee=fee,
        net=net,
        provider_payment_id=told.provider_payment_id[:ID_CHARACTERS_MAX],
        provider_refund_id=told.provider_refund_id[:ID_CHARACTERS_MAX],
        reference=told.reference[:40],
        exchange_rate=told.exchange_rate[:40],
        time=read_time(told, "time"),
    )


def read_capabilities(told: pb.Capabilities) -> Capabilities:
    """The flags; a word that is not known here declares nothing."""
    return Capabilities(
        off_session=told.off_session,
        customer_object=told.customer_object,
        hosted_setup=told.hosted_setup,
        hosted_pay=told.hosted_pay,
        manual_capture=told.manual_capture,
        partial_capture=told.partial_capture and told.manual_capture,
        cancel=told.cancel,
        refund=told.refund,
        partial_refund=told.partial_refund and told.refund,
        async_settlement=told.async_settlement,
        read_by_id=told.read_by_id,
        idempotency=_member(pb.Idempotency, told.idempotency, Idempotency, Idempotency.NONE),
        key_window=_duration(told.key_window, KEY_WINDOW_MAX),
        lookup=_member(pb.Lookup, told.lookup, Lookup, Lookup.NONE),
        refund_idempotency=_member(
            pb.Idempotency, told.refund_idempotency, Idempotency, Idempotency.NONE
        ),
        refund_read_by_id=told.refund_read_by_id,
        refund_lookup=_member(pb.Lookup, told.refund_lookup, Lookup, Lookup.NONE),
        visibility=_duration(told.visibility, VISIBILITY_MAX),
        list_changes=told.list_changes,
        notification_auth=_member(
            pb.NotificationAuth, told.notification_auth, NotificationAuth, NotificationAuth.NONE
        ),
        merchant_of_record=told.merchant_of_record,
        payout_lines=told.payout_lines,
    )


def read_amount(told: amount_pb2.Amount, finer: int | None = None) -> Amount | None:
    """An amount of a currency, which may be negative; None where it is none."""
    digits = MINOR_DIGITS.get(told.asset)
    if digits is None:
        return None
    scale = digits if finer is None else max(digits, finer)
    try:
        return Amount(
            Asset(told.asset, scale), parse_atoms(told.value, scale, "amount", signed=True)
        )
    except InvalidValue:
        return None


def read_time(message: Message, field: str) -> datetime | None:
    """A time; None where there is none, or none that a calendar has."""
    if not message.HasField(field):
        return None
    try:
        read: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return read


# --- rendering ------------------------------------------------------------------------------------


def render_login(login: Login) -> pb.Login:
    return pb.Login(
        provider_account_id=str(login.provider_account_id),
        merchant=login.merchant,
        notification_url=login.notification_url,
    )


def render_amount(amount: Amount) -> amount_pb2.Amount:
    return amount_pb2.Amount(asset=amount.asset.code, value=amount.value)


def render_contact(contact: Contact) -> pb.Contact:
    return pb.Contact(name=contact.name, email=contact.email, phone=contact.phone)


def render_time(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


E = TypeVar("E")
F = TypeVar("F")


def _member(words: Any, number: int, members: type[E], otherwise: F) -> E | F:
    """Our word for the contract's; `otherwise` where we have none, or it says nothing."""
    names: Mapping[str, int] = dict(words.items())
    prefix = next(name for name, value in names.items() if value == 0).removesuffix("UNSPECIFIED")
    name = next((each for each, value in names.items() if value == number), "")
    found: E | None = getattr(members, "__members__", {}).get(name.removeprefix(prefix))
    return otherwise if found is None or number == 0 else found


def _duration(told: Duration, longest: timedelta) -> timedelta:
    return min(max(told.ToTimedelta(), timedelta(0)), longest)
