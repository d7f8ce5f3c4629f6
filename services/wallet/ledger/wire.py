"""What the wire forms of debits, holds and grants have in common."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime

from google.protobuf.message import Message

from chassis.call import Call
from chassis.wire import parse_asset_code, parse_text, parse_uuid
from kernel.errors import InvalidValue, Kind, Refusal
from kernel.money import INTEGER_DIGITS_MAX, parse_atoms
from tollgate.type.v1 import amount_pb2, refusal_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.ledger.domain.outcomes import Outcome, Refused
from wallet.ledger.domain.values import NO_PURPOSE, OverCapture, Purpose

ITEMS_MAX = 1_000
CUSTOMER_ID_MAX = 128
REQUEST_ID_MAX = 128
REFERENCE_MAX = 200
CODE_MAX = 128
NODE_KEY_MAX = 128
FINGERPRINT_BYTES = 16

_CANONICAL_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_OVER_CAPTURES = {int(mode): mode for mode in OverCapture}


class BatchTooLarge(Refusal):
    """More items than a batch takes. Nothing of it was done."""

    reason = "BATCH_TOO_LARGE"
    kind = Kind.INVALID

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} items; a batch takes {ITEMS_MAX}", limit=ITEMS_MAX, count=count)


class Unexpected(Exception):
    """The engine answered an item with another kind's outcome."""


def check_count(count: int) -> None:
    """Raise InvalidValue for an empty batch, BatchTooLarge for one over the limit."""
    if count < 1:
        raise InvalidValue("items", "is required")
    if count > ITEMS_MAX:
        raise BatchTooLarge(count)


def clock_of(call: Call) -> datetime | None:
    """The tenant's test clock, or None: then the database's clock is read under the lock."""
    return call.now if call.clock_version else None


def fingerprint_of(kind: bytes, item: Message) -> bytes:
    """Equal exactly where two items ask the same."""
    content = item.SerializeToString(deterministic=True)
    return hashlib.sha256(kind + content).digest()[:FINGERPRINT_BYTES]


# The parsers below test the ordinary case inline and leave refusing to the chassis' own: they run
# for each item of every batch.


def parse_key(text: str) -> str:
    if not 0 < len(text) <= REQUEST_ID_MAX or not text.isprintable():
        parse_text(text, "request_id", maximum=REQUEST_ID_MAX)
    return text


def parse_customer(text: str) -> str:
    if not 0 < len(text) <= CUSTOMER_ID_MAX or not text.isprintable():
        parse_text(text, "customer_id", maximum=CUSTOMER_ID_MAX)
    return text


def parse_reference(text: str, field: str = "reference") -> str:
    if len(text) > REFERENCE_MAX or not text.isprintable():
        parse_text(text, field, minimum=0, maximum=REFERENCE_MAX)
    return text


def parse_node(text: str, field: str = "node") -> str:
    """Key of a node of a budget, or nothing where it is empty."""
    if len(text) > NODE_KEY_MAX or not text.isprintable():
        parse_text(text, field, minimum=0, maximum=NODE_KEY_MAX)
    return text


def parse_id(text: str, field: str) -> str:
    """A UUID in its one canonical form, lower case."""
    return text if _CANONICAL_UUID(text) else str(parse_uuid(text, field))


def parse_keyed(
    message: Message, kind: bytes, call: Call
) -> tuple[str, str, bytes, datetime | None]:
    """What every operation begins with: tenant, key, fingerprint, and the test clock if any."""
    request_id = parse_key(getattr(message, "request_id"))  # noqa: B009 - of whatever message
    return str(call.tenant_id), request_id, fingerprint_of(kind, message), clock_of(call)


def find_id(text: str, field: str) -> str:
    """The same, or nothing where the field is empty."""
    return parse_id(text, field) if text else ""


def parse_purpose(message: pb.Purpose) -> Purpose:
    meter, feature, product = message.meter, message.feature, message.product
    if not meter and not feature and not product:
        return NO_PURPOSE
    for text, field in ((meter, "meter"), (feature, "feature"), (product, "product")):
        if len(text) > CODE_MAX or not text.isprintable():
            parse_text(text, f"purpose.{field}", minimum=0, maximum=CODE_MAX)
    return meter, feature, product


def parse_item_amount(
    amount: amount_pb2.Amount, scales: Mapping[str, int], *, zero_allowed: bool = False
) -> tuple[str, int | None, int]:
    """Asset, scale and atoms. An unknown asset has no scale; its item is refused in the batch,
    so that the refusal is kept under the item's key."""
    asset = amount.asset
    scale = scales.get(asset)
    if scale is None:
        return parse_asset_code(asset, "amount.asset"), None, 0
    return asset, scale, parse_value(amount.value, scale, "amount.value", zero_allowed)


def parse_value(text: str, scale: int, field: str, zero_allowed: bool = False) -> int:
    """Atoms above zero, or from zero on. Raises InvalidValue for a value finer than the scale."""
    whole, point, fraction = text.partition(".")
    if (
        text.isascii()
        and whole.isdigit()
        and len(whole) + scale <= INTEGER_DIGITS_MAX
        and (fraction.isdigit() and len(fraction) <= scale if point else True)
    ):
        atoms = int(whole + fraction.ljust(scale, "0"))
    else:
        atoms = parse_atoms(text, scale, field)
    if atoms == 0 and not zero_allowed:
        raise InvalidValue(field, "must be greater than zero")
    return atoms


def parse_over_capture(value: int) -> OverCapture:
    mode = _OVER_CAPTURES.get(value)
    if mode is None:
        raise InvalidValue("over_capture", f"{value} is not known")
    return mode


def render_refusal(refused: Refused) -> refusal_pb2.Refusal:
    return refusal_pb2.Refusal(reason=refused.reason, message=refused.message, facts=refused.facts)


def answered(outcome: Outcome) -> Outcome:
    """The answer of a single call: a refused item is the call's own status."""
    if isinstance(outcome, Refused):
        refusal = Refusal(outcome.message, **outcome.facts)
        refusal.reason, refusal.kind = outcome.reason, outcome.kind
        raise refusal
    return outcome


def unexpected(outcome: Outcome) -> Unexpected:
    return Unexpected(type(outcome).__name__)
