"""Captures and cancellations as protobuf."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.currency import collectable
from gateway.domain.payment import Payment
from kernel.money import Amount
from tollgate.gateway.v1 import payment_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Ordered:
    """A payment after a capture or cancellation was asked for."""

    payment: Payment
    outcome_unknown: bool = False
    rejection: str = ""


def parse_part(
    request: pb.CapturePaymentRequest | pb.CreateRefundRequest,
) -> Amount | None:
    """How much of a payment; None where all of it is meant."""
    if not request.HasField("amount"):
        return None
    return collectable(request.amount.asset, request.amount.value)
