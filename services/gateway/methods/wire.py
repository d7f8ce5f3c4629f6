"""Payment methods as protobuf."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.wire import parse_text, render_time
from gateway.domain.method import PaymentMethod, check_label
from gateway.domain.provider_account import CODE_PATTERN
from tollgate.gateway.v1 import payment_pb2
from tollgate.gateway.v1 import payment_service_pb2 as pb

CUSTOMER_ID_MAX = 128
TOKEN_MAX = 255


@dataclass(frozen=True, slots=True)
class NewMethod:
    customer_id: str
    provider_account: str
    provider_token: str
    label: str
    make_default: bool
    provider_customer_id: str = ""
    kind: str = ""


def parse_customer_id(text: str, field: str = "customer_id") -> str:
    return parse_text(text, field, maximum=CUSTOMER_ID_MAX)


def parse_new_method(request: pb.AttachPaymentMethodRequest) -> NewMethod:
    return NewMethod(
        customer_id=parse_customer_id(request.customer_id),
        provider_account=parse_text(
            request.provider_account, "provider_account", maximum=64, pattern=CODE_PATTERN
        ),
        provider_token=parse_text(request.provider_token, "provider_token", maximum=TOKEN_MAX),
        label=check_label(parse_text(request.label, "label", minimum=0, maximum=100)),
        make_default=request.make_default,
        provider_customer_id=parse_text(
            request.provider_customer_id, "provider_customer_id", minimum=0, maximum=200
        ),
        kind=parse_text(request.kind, "kind", minimum=0, maximum=64),
    )


def render_method(method: PaymentMethod) -> payment_pb2.PaymentMethod:
    return payment_pb2.PaymentMethod(
        payment_method_id=str(method.payment_method_id),
        customer_id=method.customer_id,
        provider_account=method.provider_account,
        provider_token=method.provider_token,
        label=method.label,
        is_default=method.is_default,
        create_time=render_time(method.create_time),
        kind=method.kind,
        brand=method.brand,
        last_four=method.last_four,
        expire_year=method.expire_year,
        expire_month=method.expire_month,
        provider_customer_id=method.provider_customer_id,
    )
