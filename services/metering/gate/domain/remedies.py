"""What would make a denied request pass: one way out or two for each reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from kernel.money import format_decimal
from metering.charging.domain import Refused


class RemedyKind(Enum):
    ADD_FUNDS = 1
    ASK_LESS = 2
    WAIT = 3
    RAISE_CAP = 4
    RAISE_LIMIT = 5
    GRANT_FEATURE = 6
    SUBSCRIBE = 7
    END_SUSPENSION = 8
    CREATE_CUSTOMER = 9


class Remedy(NamedTuple):
    """One way out of a denial; what does not belong to its kind is empty."""

    reason: str
    kind: RemedyKind
    subject: str = ""
    asset: str = ""
    value: str = ""  # of the asset
    quantity: str = ""
    wait_until: datetime | None = None


def remedies_of(reasons: Sequence[Refused]) -> list[Remedy]:
    """What would make a request pass, in the order of the reasons against it."""
    return [remedy for reason in reasons for remedy in _remedies(reason)]


def _remedies(cause: Refused) -> list[Remedy]:
    facts, reason = cause.facts, cause.reason
    match reason:
        case "INSUFFICIENT_FUNDS":
            missing = _missing(facts["needed"], facts["available"])
            return [Remedy(reason, RemedyKind.ADD_FUNDS, asset=facts["asset"], value=missing)]
        case "SPEND_CAP_REACHED":
            missing = _missing(facts["needed"], facts["left"])
            raising = Remedy(
                reason, RemedyKind.RAISE_CAP, facts["node"], asset=facts["asset"], value=missing
            )
            return [*_waiting(reason, facts["node"], facts["reset_time"]), raising]
        case "LIMIT_REACHED":
            found = []
            subject, left = facts["feature"], facts["remaining"]
            if left != "0":
                found.append(Remedy(reason, RemedyKind.ASK_LESS, facts["meter"], quantity=left))
            if Decimal(facts["needed"]) <= Decimal(facts["limit"]):
                found += _waiting(reason, subject, facts["reset_time"])
            missing = _missing(facts["needed"], left)
            found.append(Remedy(reason, RemedyKind.RAISE_LIMIT, subject, quantity=missing))
            return found
        case "NOT_ENTITLED":
            if "feature" in facts:
                return [Remedy(reason, RemedyKind.GRANT_FEATURE, facts["feature"])]
            return [Remedy(reason, RemedyKind.SUBSCRIBE, facts["event"])]
        case "CUSTOMER_SUSPENDED":
            return [Remedy(reason, RemedyKind.END_SUSPENSION, facts["customer_id"])]
        case "CUSTOMER_UNKNOWN":
            return [Remedy(reason, RemedyKind.CREATE_CUSTOMER, facts["customer_id"])]
    return []


def _waiting(reason: str, subject: str, reset_time: str) -> list[Remedy]:
    if not reset_time:
        return []
    until = datetime.fromisoformat(reset_time)
    return [Remedy(reason, RemedyKind.WAIT, subject, wait_until=until)]


def _missing(needed: str, there: str) -> str:
    return format_decimal(max(Decimal(needed) - Decimal(there), Decimal(0)))
