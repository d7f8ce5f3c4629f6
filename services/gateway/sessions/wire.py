"""Hosted pages as protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chassis.wire import parse_text, render_time
from gateway.domain.currency import collectable
from gateway.domain.payment import Source
from gateway.domain.provider_account import CODE_PATTERN
from gateway.domain.session import OPEN, HostedPage, check_return_url
from gateway.methods.wire import parse_customer_id
from kernel.currency import currency
from kernel.money import Amount
from tollgate.gateway.v1 import session_pb2 as pb


@dataclass(frozen=True, slots=True)
class NewPage:
    customer_id: str
    provider_account: str
    amount: Amount  # of a page to store a method on: zero of its currency
    source: Source | None  # None: nothing is paid
    description: str
    return_url: str
    contact: Mapping[str, str]
    country: str


def parse_checkout(request: pb.CreateCheckoutSessionRequest) -> NewPage:
    return NewPage(
        customer_id=parse_customer_id(request.customer_id),
        provider_account=_code(request.provider_account),
        amount=collectable(request.amount.asset, request.amount.value),
        source=Source(
            parse_text(request.source.kind, "source.kind", maximum=32),
            parse_text(request.source.id, "source.id", maximum=128),
        ),
        description=parse_text(request.description, "description", minimum=0, maximum=100),
        return_url=check_return_url(request.return_url),
        contact=_contact(request.contact),
        country=_country(request.country),
    )


def parse_setup(request: pb.CreateSetupSessionRequest) -> NewPage:
    return NewPage(
        customer_id=parse_customer_id(request.customer_id),
        provider_account=_code(request.provider_account),
        amount=currency(request.asset, "asset").zero(),
        source=None,
        description="",
        return_url=check_return_url(request.return_url),
        contact=_contact(request.contact),
        country=_country(request.country),
    )


def _code(text: str) -> str:
    return parse_text(text, "provider_account", maximum=64, pattern=CODE_PATTERN)


def _country(text: str) -> str:
    return parse_text(text, "country", minimum=0, maximum=2, pattern="([A-Z]{2})?")


def _contact(contact: pb.PayerContact) -> dict[str, str]:
    return {
        "name": parse_text(contact.name, "contact.name", minimum=0, maximum=100),
        "email": parse_text(contact.email, "contact.email", minimum=0, maximum=200),
        "phone": parse_text(contact.phone, "contact.phone", minimum=0, maximum=30),
    }


def render_session(page: HostedPage) -> pb.Session:
    return pb.Session(
        session_id=str(page.session_id),
        mode=pb.SESSION_MODE_CHECKOUT if page.pays else pb.SESSION_MODE_SETUP,
        customer_id=page.customer_id,
        provider_account=page.provider_account,
        state=pb.SessionState.Value(f"SESSION_STATE_{page.state}"),
        url=page.url if page.state == OPEN else "",
        expire_time=render_time(page.expire_time) if page.expire_time else None,
        payment_id=str(page.payment_id) if page.payment_id else "",
        payment_method_id=str(page.payment_method_id) if page.payment_method_id else "",
        create_time=render_time(page.create_time),
    )
