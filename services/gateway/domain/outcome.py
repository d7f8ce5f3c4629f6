"""What one piece of evidence says about an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from kernel.money import Amount


class Finding(Enum):
    """The closed list of things that evidence can say. What it does not clearly say is SILENCE."""

    AUTHORIZED = "AUTHORIZED"  # reserved, not yet taken
    SUCCEEDED = "SUCCEEDED"  # taken
    PENDING = "PENDING"  # accepted, to be settled later
    NEEDS_ACTION = "NEEDS_ACTION"  # the customer must act
    DECLINED = "DECLINED"  # the payer's bank said no
    REJECTED = "REJECTED"  # the request never took effect
    CANCELED = "CANCELED"
    SILENCE = "SILENCE"  # nothing that can be relied on
    ABSENT = "ABSENT"  # the provider knows of no such thing
    REVERSED = "REVERSED"  # taken, and gone back without a dispute


class DeclineClass(Enum):
    """What a decline means for a retry."""

    SOFT = "SOFT"  # on schedule
    TECHNICAL = "TECHNICAL"  # soon
    ACTION_REQUIRED = "ACTION_REQUIRED"  # after the customer acted
    HARD = "HARD"  # never with this method
    FRAUD = "FRAUD"  # never, and look at the customer


class Basis(Enum):
    """What a finding rests on. Only a statement about the payment itself can end an UNKNOWN."""

    STATED = "STATED"  # the provider spoke about this payment
    NOT_SENT = "NOT_SENT"  # no byte of this request left
    THROTTLED = "THROTTLED"  # refused unread, too many requests
    ACCESS = "ACCESS"  # the credentials were refused
    UNEXPLAINED = "UNEXPLAINED"  # an error status without a documented reason


class Witness(Enum):
    """Where a finding comes from."""

    REPLY = "REPLY"  # the answer to the attempt's own request
    LEASE = "LEASE"  # nobody recorded an outcome in time
    REPLAY = "REPLAY"  # the same request with the same key
    READ = "READ"  # by the provider's id
    FIND = "FIND"  # by our reference
    NOTIFICATION = "NOTIFICATION"


@dataclass(frozen=True, slots=True)
class NextAction:
    """Where the customer must go, and until when."""

    url: str
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a plan. Amounts are as the provider states them, never as they were asked for."""

    finding: Finding
    provider_payment_id: str = ""
    provider_refund_id: str = ""
    stated: Amount | None = None
    decline_code: str = ""
    decline_class: DeclineClass | None = None
    action: NextAction | None = None
    basis: Basis = Basis.STATED
    retryable: bool = False  # a REJECTED that another try, or another provider, may pass
    detail: str = ""  # for people: which sentence of the answer decided
    # An AUTHORIZED that the provider takes by itself where it was not told to wait: SUCCEEDED then.
    takes_itself: bool = False
    # A DECLINED that may come after a success, whose money then went back: REVERSED then.
    undoes_success: bool = False


# Findings that say money moved or will; before one is believed from a notification, it is read.
MONEY_FINDINGS = frozenset({Finding.AUTHORIZED, Finding.SUCCEEDED, Finding.REVERSED})

# Findings that leave a question open.
UNCLEAR = frozenset({Finding.SILENCE, Finding.ABSENT})


def classify(code: str, table: Mapping[str, DeclineClass]) -> DeclineClass:
    """The class of a provider's decline code; an unlisted code is SOFT."""
    return table.get(code, DeclineClass.SOFT)


def as_evidence(outcome: Outcome, witness: Witness) -> Outcome:
    """What an outcome proves about a payment that may have been sent before.

    The reply to the first request may say that nothing was sent. The same words in answer to a
    later question are about the question, not about the payment. Only a find reports absence.
    """
    about_the_payment = witness is Witness.REPLY or outcome.basis is Basis.STATED
    if outcome.finding is Finding.ABSENT:
        about_the_payment = witness is Witness.FIND
    return outcome if about_the_payment else replace(outcome, finding=Finding.SILENCE)
