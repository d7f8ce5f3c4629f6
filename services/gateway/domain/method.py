"""A token that stands for a card, mandate or purse, bound to one provider account for life."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kernel.errors import InvalidValue, Kind, Refusal

LABEL_DIGITS_MAX = 4  # a brand and the last four is all that people need to know a card by


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    payment_method_id: UUID
    customer_id: str
    provider_account_id: UUID
    provider_account: str  # its code
    provider_token: str
    label: str
    is_default: bool
    create_time: datetime
    kind: str = ""  # the provider's word
    brand: str = ""
    last_four: str = ""
    expire_year: int = 0  # 0: does not expire, or is not known to
    expire_month: int = 0
    provider_customer_id: str = ""  # whose it is at the provider
    detach_time: datetime | None = None  # forgotten: charged no more


class MethodNotUsable(Refusal):
    """The customer has no such method, or none at all."""

    reason = "METHOD_NOT_USABLE"

    def __init__(self, customer_id: str) -> None:
        super().__init__(
            f"customer {customer_id!r} has no usable payment method", customer_id=customer_id
        )


class AlreadyExists(Refusal):
    """Something of that name exists already."""

    reason = "ALREADY_EXISTS"
    kind = Kind.CONFLICT

    def __init__(self, what: str, name: object) -> None:
        super().__init__(f"{what} {str(name)!r} exists already", what=what, name=name)


def check_label(label: str) -> str:
    """A label shows at most four digits in a row; raises InvalidValue."""
    if re.search(rf"\d{{{LABEL_DIGITS_MAX + 1}}}", label):
        raise InvalidValue("label", f"shows more than {LABEL_DIGITS_MAX} digits in a row")
    return label
