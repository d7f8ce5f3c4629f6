"""The operation that carries something out: its key, its notes, and how far it was asked about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from gateway.domain.resolution import Asking
from gateway.providers.plan import Cancel, Capture, Charge, Refund


class Kind(Enum):
    """What an operation does at the provider."""

    CHARGE = "CHARGE"  # its target is an attempt
    CAPTURE = "CAPTURE"  # an attempt
    CANCEL = "CANCEL"  # an attempt
    REFUND = "REFUND"  # a refund


@dataclass(frozen=True, slots=True)
class Operation:
    """A request that could move money, written down before its first byte leaves."""

    operation_id: UUID
    target_id: UUID
    provider_account_id: UUID
    key: str  # idempotency key, made once
    reference: str  # what the provider is told
    asking: Asking
    kind: Kind = Kind.CHARGE
    notes: Mapping[str, str] = field(default_factory=dict)
    tries: int = 0  # 0: nobody has taken it up
    done: bool = False
    acknowledged: bool = False  # the provider took it on; what comes of it comes later
    rejection: str = ""  # why it had no effect


def fingerprint_of(command: Charge | Capture | Cancel | Refund) -> bytes:
    """What the operation's key stands for, so that a repeat can be shown to ask the same."""
    amount = command.amount
    content = {
        "reference": command.reference,
        "atoms": str(amount.atoms),
        "asset": amount.asset.code,
    }
    match command:
        case Charge():
            content |= {
                "token": command.provider_token,
                "customer": command.customer_id,
                "description": command.description,
                "time": command.time.isoformat(),
                "capture": "later" if command.capture_later else "now",
            }
        case Capture() | Cancel():
            content |= {"do": type(command).__name__, "payment": command.provider_payment_id}
        case Refund():
            content |= {"payment": command.provider_payment_id, "reason": command.reason}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
