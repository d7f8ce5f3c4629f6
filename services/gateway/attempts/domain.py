"""The operation that carries out an attempt: its key, its notes, and how far it was asked about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from gateway.domain.resolution import Asking
from gateway.providers.plan import Charge


@dataclass(frozen=True, slots=True)
class Operation:
    """A request that could move money, written down before its first byte leaves."""

    operation_id: UUID
    attempt_id: UUID
    provider_account_id: UUID
    key: str  # idempotency key, made once
    reference: str  # what the provider is told; the attempt's id
    asking: Asking
    notes: Mapping[str, str] = field(default_factory=dict)
    tries: int = 0


def fingerprint_of(command: Charge) -> bytes:
    """What the operation's key stands for, so that a repeat can be shown to ask the same."""
    content = {
        "reference": command.reference,
        "atoms": str(command.amount.atoms),
        "asset": command.amount.asset.code,
        "token": command.provider_token,
        "customer": command.customer_id,
        "description": command.description,
        "time": command.time.isoformat(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
