"""An authorization: permission to use, with funds set aside for it. It ends once."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from kernel.errors import Kind, Refusal
from metering.charging.domain import OverUse, Refused


class AuthorizationState(Enum):
    """Where an authorization stands. DENIED ones are kept to answer a repeated request."""

    OPEN = 1
    CAPTURED = 2
    VOIDED = 3
    EXPIRED = 4
    DENIED = 5


class Hold(NamedTuple):
    """Funds set aside in one asset."""

    asset: str
    scale: int
    hold_id: str
    atoms: int
    available: str


class Reservation(NamedTuple):
    """Usage that open authorizations may still add to the tiers of a price."""

    subscription_item_id: str
    price_id: str
    period_start: datetime
    quantity: str
    atoms: int


class Authorization(NamedTuple):
    """One answer of the gate."""

    authorization_id: UUID
    request_id: str
    fingerprint: bytes
    customer_id: str
    feature: str
    state: AuthorizationState
    over_use: OverUse
    holds: tuple[Hold, ...]
    reserved: tuple[Reservation, ...]
    reasons: tuple[Refused, ...]
    create_time: datetime
    expire_time: datetime

    def state_at(self, now: datetime) -> AuthorizationState:
        """Its state; one that is open past its time has expired, whether or not it was swept."""
        if self.state is AuthorizationState.OPEN and self.expire_time <= now:
            return AuthorizationState.EXPIRED
        return self.state


class AuthorizationEnded(Refusal):
    """The authorization has ended."""

    reason = "AUTHORIZATION_ENDED"
    kind = Kind.PRECONDITION

    def __init__(self, authorization_id: UUID, state: str, field: str = "") -> None:
        where = {"field": field} if field else {}
        before = f"{field}: " if field else ""
        super().__init__(
            f"{before}the authorization is {state}",
            authorization_id=authorization_id,
            state=state,
            **where,
        )
