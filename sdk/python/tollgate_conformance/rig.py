"""A rig: how the provider under test is met, which tokens lead where, and what its books say."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import ClassVar

from gateway.domain.provider_account import ProviderAccount, ProviderAccountState
from gateway.providers.commands import Contact, Delivery, Login, Session
from gateway.providers.exchange import Line
from gateway.providers.plan import API_SECRET, NOTIFICATION_SECRET, Provider
from gateway.providers.registry import origin_of
from kernel.money import Amount


class Want(Enum):
    """What a method token of a rig leads to."""

    OK = "OK"  # succeeds, also to be captured later
    SOFT = "SOFT"  # declined, for now
    TECHNICAL = "TECHNICAL"  # declined, somebody stumbled
    ACTION_REQUIRED = "ACTION_REQUIRED"  # declined, the customer must act first
    HARD = "HARD"  # declined for ever
    FRAUD = "FRAUD"  # declined for ever, and suspicious
    NEEDS_ACTION = "NEEDS_ACTION"  # waits for the payer, at a page
    ASYNC = "ASYNC"  # accepted; succeeds within a few seconds
    REFUND_RETURNED = "REFUND_RETURNED"  # succeeds; a refund of it comes back within a few seconds
    REFUND_DECLINED = "REFUND_DECLINED"  # succeeds; a refund of it is declined


@dataclass(frozen=True, slots=True)
class Charged:
    """One payment in the provider's books: what it took, zero where it took nothing."""

    taken: Amount


@dataclass(frozen=True, slots=True)
class Refunded:
    """One refund in the provider's books: what it sent back."""

    sent: Amount


class Rig:
    """How one provider is met. Subclass it; what a method does not override does not exist.

    The kit makes one with no arguments, awaits `open`, runs its cases, and awaits `close`.
    """

    # Method tokens by what they lead to. What is missing is skipped, and the skip says so.
    tokens: Mapping[Want, str] = {}
    # A currency that the provider takes, by the decimal places of its minor unit in ISO 4217. One
    # of two is needed.
    currencies: Mapping[int, str] = {2: "USD"}
    customer_id: str = "kit-ada"
    provider_customer_id: str = ""  # of who owns the tokens, where charges need it
    method_kind: str = ""
    contact: Contact = Contact("Ada", "ada@example.com", "+919999999999")
    merchant: str = ""
    api_secret: bytes = b"sk_4f0a6c1e2a574a3e"
    # Newest first. The second is the one before, as long as both are accepted.
    notification_secrets: Sequence[bytes] = ()
    country: str = "DE"
    # Why a case does not apply although the capabilities would let it, by the case's name.
    excused: ClassVar[Mapping[str, str]] = {}

    provider: Provider
    endpoint: str = ""

    async def open(self, mailbox: str) -> None:
        """Start whatever must run. `mailbox` is a URL that takes the provider's notifications."""

    async def close(self) -> None:
        """Stop it."""

    def line(self, mailbox: str) -> Line:
        """The line to the provider: an account of it, as a gateway would have one."""
        account_id = uuid.uuid5(uuid.NAMESPACE_URL, "conformance")
        account = ProviderAccount(
            account_id,
            "conformance",
            self.provider.name,
            self.endpoint,
            ProviderAccountState.ACTIVE,
            datetime(2026, 1, 1, tzinfo=UTC),
            merchant=self.merchant,
        )
        newest = self.notification_secrets[0] if self.notification_secrets else b""
        return Line(
            account,
            Login(account_id, self.endpoint, mailbox, self.merchant),
            frozenset({origin_of(self.endpoint)} - {""}),
            {API_SECRET: lambda: self.api_secret, NOTIFICATION_SECRET: lambda: newest},
            self.provider.target,
        )

    async def charges(self, reference: str) -> Sequence[Charged] | None:
        """Every payment of a reference in the provider's books; None where they cannot be seen."""
        return None

    async def refunds(self, reference: str) -> Sequence[Refunded] | None:
        """Every refund of a reference in the provider's books; None where they cannot be seen."""
        return None

    async def deliveries(self, reference: str) -> Sequence[Delivery] | None:
        """True notifications about a reference, as signed with the newest secret; None where the
        mailbox is to be looked at, which is what it is there for."""
        return None

    async def several(self, references: Sequence[str]) -> Delivery | None:
        """One true notification about several payments; None where the provider sends none."""
        return None

    async def stranger(self) -> Delivery | None:
        """A true notification of a kind that means nothing; None where none can be had."""
        return None

    async def signed_with(self, delivery: Delivery, secret: bytes) -> Delivery | None:
        """The same notification signed with another secret; None where only the provider can."""
        return None

    async def finish(self, session: Session) -> bool:
        """Do what a person does on the page; False where nobody here can."""
        return False
