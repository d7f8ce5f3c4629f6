"""Provider accounts as protobuf."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.wire import parse_text, render_time
from gateway.domain.provider_account import (
    CODE_PATTERN,
    ProviderAccount,
    parse_secret_reference,
)
from tollgate.gateway.v1 import payment_pb2
from tollgate.gateway.v1 import payment_service_pb2 as pb

ENDPOINT_MAX = 500


@dataclass(frozen=True, slots=True)
class NewProviderAccount:
    code: str
    provider: str
    endpoint: str
    secret_reference: str
    notification_secret_reference: str
    merchant: str


def parse_new_provider_account(request: pb.CreateProviderAccountRequest) -> NewProviderAccount:
    return NewProviderAccount(
        code=parse_text(request.code, "code", maximum=64, pattern=CODE_PATTERN),
        provider=parse_text(request.provider, "provider", maximum=64),
        endpoint=parse_text(request.endpoint, "endpoint", minimum=0, maximum=ENDPOINT_MAX),
        secret_reference=parse_secret_reference(request.secret_reference, "secret_reference"),
        notification_secret_reference=parse_secret_reference(
            request.notification_secret_reference, "notification_secret_reference"
        ),
        merchant=parse_text(request.merchant, "merchant", minimum=0, maximum=128),
    )


def render_provider_account(account: ProviderAccount) -> payment_pb2.ProviderAccount:
    return payment_pb2.ProviderAccount(
        code=account.code,
        provider=account.provider,
        endpoint=account.endpoint,
        state=payment_pb2.ProviderAccountState.Value(
            f"PROVIDER_ACCOUNT_STATE_{account.state.value}"
        ),
        create_time=render_time(account.create_time),
        provider_account_id=str(account.provider_account_id),
        merchant=account.merchant,
    )
