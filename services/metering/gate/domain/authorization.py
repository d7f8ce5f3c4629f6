"""An authorization: permission to use, with funds set aside for it. It ends once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from kernel.errors import Kind, Refusal
from metering.charging.domain import OverUse, Refused
from metering.usage.domain import text_of
from rating.exact import Number, parse_number


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


class Standing(NamedTuple):
    """How a limit stands after an answer; quantities as decimal strings."""

    feature: str
    meter: str
    hard: bool
    limit: str
    used: str
    reserved: str
    remaining: str
    overage: str
    reset_time: datetime | None


class Granted(NamedTuple):
    """The usage that was granted, in the form of the event that will report it."""

    name: str
    properties: Mapping[str, str]


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
    node: str = ""
    granted: Granted | None = None
    is_final: bool = False
    standings: tuple[Standing, ...] = ()
    measured: tuple[tuple[str, str], ...] = ()  # set aside of limits: meter, quantity

    def less(
        self,
        parts: Sequence[tuple[str, str, datetime, Number, int]],
        counted: Sequence[tuple[str, Number]],
    ) -> Authorization:
        """What stays set aside of tiers and limits after an event that leaves it open.

        `parts` are item, price, period start, quantity, atoms; `counted` are meter and value.
        """
        reserved = list(self.reserved)
        for item, price, start, quantity, atoms in parts:
            for place, each in enumerate(reserved):
                if (each.subscription_item_id, each.price_id, each.period_start) == (
                    item, price, start,
                ):  # fmt: skip
                    left = max(_read(each.quantity) - quantity, 0)
                    atoms_left = max(each.atoms - atoms, 0) if left else 0
                    reserved[place] = each._replace(quantity=text_of(left), atoms=atoms_left)
        measured = dict(self.measured)
        for meter, value in counted:
            if meter in measured:
                measured[meter] = text_of(max(_read(measured[meter]) - value, 0))
        return self._replace(reserved=tuple(reserved), measured=tuple(measured.items()))

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


def _read(text: str) -> Number:
    return parse_number(text, "quantity", signed=True)
