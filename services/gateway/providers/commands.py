"""What a provider is asked to do, and what it answers: the vocabulary that all plans share.

Commands are complete: whoever sends one again sends the same, word for word. Ids that begin with
`provider_` are the provider's own; the others are Tollgate's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

from gateway.domain.outcome import Outcome
from kernel.money import Amount


@dataclass(frozen=True, slots=True)
class Login:
    """What a plan may know of the provider account that it speaks for."""

    provider_account_id: UUID
    endpoint: str
    notification_url: str = ""  # where notifications of this account are taken; empty: nowhere
    merchant: str = ""  # the merchant's own name at the provider, where calls must state it


@dataclass(frozen=True, slots=True)
class Contact:
    """What some providers must be told of a payer beside its id."""

    name: str = ""
    email: str = ""
    phone: str = ""


NO_CONTACT = Contact()

# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Charge:
    """Charge a stored method while the customer is away."""

    reference: str  # the attempt's id, ≤ 40 characters of [A-Za-z0-9_-]
    key: str
    amount: Amount
    provider_token: str
    customer_id: str
    description: str
    time: datetime  # the attempt's own; the same in every repeat
    notes: Mapping[str, str] = field(default_factory=dict)
    capture_later: bool = False  # reserve only; needs the capability manual_capture
    provider_customer_id: str = ""
    method_kind: str = ""  # the provider's word: card, sepa_debit, scheme, …; empty: its default
    contact: Contact = NO_CONTACT


@dataclass(frozen=True, slots=True)
class Look:
    """Look for a payment by the provider's id or by our reference."""

    reference: str
    amount: Amount
    provider_payment_id: str = ""
    customer_id: str = ""
    time: datetime | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    capture_later: bool = False
    provider_customer_id: str = ""
    provider_token: str = ""


@dataclass(frozen=True, slots=True)
class Capture:
    """Take what an authorization reserved, in whole or in part."""

    reference: str  # the attempt's
    key: str
    amount: Amount  # what to take
    authorized: Amount
    provider_payment_id: str
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return self.amount == self.authorized


@dataclass(frozen=True, slots=True)
class Cancel:
    """Call a payment off before its money is taken."""

    reference: str  # the attempt's
    key: str
    amount: Amount
    provider_payment_id: str = ""  # empty: not known; by reference, where the provider can
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refund:
    """Send money back against a payment that succeeded."""

    reference: str  # the refund's id
    key: str
    amount: Amount
    provider_payment_id: str
    payment_reference: str  # the attempt's id
    captured: Amount
    refunded_before: Amount  # of this payment, not counting this refund
    reason: str
    time: datetime
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LookRefund:
    """Look for a refund by the provider's id or by our reference."""

    reference: str
    amount: Amount
    provider_payment_id: str
    provider_refund_id: str = ""
    time: datetime | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """Make the provider's own record of a customer; an existing one of ours is given back."""

    customer_id: str
    key: str
    contact: Contact = NO_CONTACT
    notes: Mapping[str, str] = field(default_factory=dict)


class SessionMode(Enum):
    PAY = "PAY"  # a person pays, and the method may be stored with it
    SETUP = "SETUP"  # a method is stored, nothing is paid


@dataclass(frozen=True, slots=True)
class NewSession:
    """Open a page of the provider's where a person pays or stores a method."""

    mode: SessionMode
    reference: str  # PAY: the attempt's id; SETUP: the session's
    key: str
    customer_id: str
    return_url: str
    amount: Amount  # SETUP: zero of the currency that the method is to pay in
    description: str
    time: datetime
    expire_time: datetime | None = None
    provider_customer_id: str = ""
    country: str = ""  # ISO 3166 alpha-2, where known
    contact: Contact = NO_CONTACT
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LookSession:
    """Look at a session by the provider's id."""

    reference: str
    mode: SessionMode
    provider_session_id: str
    customer_id: str = ""
    provider_customer_id: str = ""
    result: str = ""  # what the provider handed the browser, where reading needs it
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CustomerMethods:
    """Which customer's methods to list."""

    customer_id: str
    provider_customer_id: str = ""


@dataclass(frozen=True, slots=True)
class Detach:
    """Forget a stored method at the provider."""

    provider_token: str
    key: str
    customer_id: str = ""
    provider_customer_id: str = ""


@dataclass(frozen=True, slots=True)
class Since:
    """Where to go on reading a provider's list: from a time, or from the page before."""

    time: datetime
    page_token: str = ""
    provider_payout_id: str = ""  # payout lines only: of this payout; empty: of all


# --- answers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CustomerLink:
    """The provider's own id of a customer."""

    provider_customer_id: str


@dataclass(frozen=True, slots=True)
class StoredMethod:
    """A stored method as the provider shows it. Never more than the last four digits."""

    provider_token: str
    kind: str  # the provider's word
    usable: bool = True
    provider_customer_id: str = ""
    customer_id: str = ""
    brand: str = ""
    last_four: str = ""
    expire_year: int = 0
    expire_month: int = 0  # 1 to 12; 0: does not expire
    replaced_by: str = ""  # the token that takes its place
    state: str = ""  # the provider's word for a mandate's state


class SessionState(Enum):
    OPEN = "OPEN"
    COMPLETED = "COMPLETED"
    EXPIRED = "EXPIRED"
    CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True)
class Session:
    """A hosted page as it stands, with what came of it."""

    provider_session_id: str
    state: SessionState
    url: str = ""  # where to send the person while OPEN
    expire_time: datetime | None = None
    provider_customer_id: str = ""
    payment: Outcome | None = None  # PAY: of the payment made there
    method: StoredMethod | None = None  # the method stored there
    notes: Mapping[str, str] = field(default_factory=dict)


class About(Enum):
    """What an item of a notification, or of a list of changes, is about."""

    PAYMENT = "PAYMENT"
    REFUND = "REFUND"
    DISPUTE = "DISPUTE"
    METHOD = "METHOD"
    SESSION = "SESSION"
    PAYOUT = "PAYOUT"
    OTHER = "OTHER"  # of a kind that says nothing that is kept here


class DisputeStage(Enum):
    """How far a dispute is."""

    INQUIRY = "INQUIRY"
    OPENED = "OPENED"
    UNDER_REVIEW = "UNDER_REVIEW"
    WON = "WON"
    LOST = "LOST"
    ACCEPTED = "ACCEPTED"


@dataclass(frozen=True, slots=True)
class Dispute:
    """What a provider tells of a dispute."""

    provider_dispute_id: str
    stage: DisputeStage | None = None  # None: nothing about how far it is
    amount: Amount | None = None
    reason: str = ""
    respond_by: datetime | None = None
    funds: str = ""  # "withdrawn" or "reinstated" where this very item says so


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a provider tells: unique by id within its provider account."""

    id: str
    kind: str
    reference: str = ""  # ours: of the attempt; REFUND: of the refund
    provider_payment_id: str = ""
    outcome: Outcome | None = None  # PAYMENT, REFUND: None where it says nothing of an outcome
    about: About = About.PAYMENT
    object_id: str = ""  # the provider's id of what it is about, where that is no payment
    dispute: Dispute | None = None
    method: StoredMethod | None = None
    time: datetime | None = None  # when the provider says that it happened


@dataclass(frozen=True, slots=True)
class Reading:
    """A notification, read. Where it is not authentic, `why` says so and there are no items."""

    authentic: bool
    items: tuple[Item, ...] = ()
    why: str = ""
    status: int = 0  # what the sender is answered; 0: as the provider's module says
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification as it arrived: the raw body, header names in lower case, what may sign it."""

    headers: Mapping[str, str]
    body: bytes
    secrets: Sequence[bytes]  # every active one; two during rotation
    now: datetime
    verified: bool = False  # found authentic when it came; its headers are gone


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of what happened at a provider, oldest first where the provider can."""

    items: tuple[Item, ...]
    next_page_token: str = ""  # empty: no more for now


class LineKind(Enum):
    CHARGE = "CHARGE"
    REFUND = "REFUND"
    DISPUTE = "DISPUTE"
    FEE = "FEE"
    ADJUSTMENT = "ADJUSTMENT"
    RESERVE = "RESERVE"


@dataclass(frozen=True, slots=True)
class PayoutLine:
    """One line that explains a payout; `net` is `gross - fee`. Money that leaves is negative.

    Amounts may be finer than the currency's minor unit (the asset's scale tells): some providers
    keep fees of fractions of a cent. They add up to whole units over a payout.
    """

    id: str
    provider_payout_id: str
    kind: LineKind
    gross: Amount
    fee: Amount
    net: Amount
    provider_payment_id: str = ""
    provider_refund_id: str = ""
    reference: str = ""
    exchange_rate: str = ""  # a decimal; empty: none was applied
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class PayoutLines:
    """A page of lines."""

    lines: tuple[PayoutLine, ...]
    next_page_token: str = ""
