"""Adjustments on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chassis.call import Call
from chassis.wire import find_time, parse_text, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import adjustment_service_pb2 as pb
from wallet.adjustments.operations import DebitDetail, DebitReversal, ReversedDebit
from wallet.adjustments.store import Adjustment, Found
from wallet.grants.wire import render_parts
from wallet.ledger.domain.answers import Corrected, Reversed
from wallet.ledger.domain.items import CorrectItem, ReverseItem
from wallet.ledger.domain.outcomes import Outcome, Posted, Refused
from wallet.ledger.domain.values import Account
from wallet.ledger.wire import (
    clock_of,
    find_id,
    fingerprint_of,
    parse_id,
    parse_item_amount,
    parse_keyed,
    parse_value,
    render_refusal,
    unexpected,
)

APPROVER_MAX = 128
REVERSAL_KEY_MAX = 100  # a debit of several wallets adds the number of each transfer to it
DECIMALS_MAX = 18
SEQUENCE_MAX = 2**63 - 1

HOUSE = {
    f"house:{account.name.lower()}": account
    for account in Account
    if account >= Account.REVENUE and account is not Account.CONVERSION
}
_DIRECTIONS = {1: True, 2: False}  # whether value comes in


def parse_transfer_id(text: str) -> tuple[str, int]:
    """Wallet and number. Raises InvalidValue."""
    wallet_id, slash, number = text.partition("/")
    if not slash or not number.isascii() or not number.isdigit() or len(number) > 19:
        raise InvalidValue("transfer_id", "is not of the form <wallet_id>/<sequence>")
    sequence = int(number)
    if not 1 <= sequence <= SEQUENCE_MAX:
        raise InvalidValue("transfer_id", "is not of the form <wallet_id>/<sequence>")
    return parse_id(wallet_id, "transfer_id"), sequence


def parse_reversal(
    request: pb.ReverseTransferRequest, call: Call, found: Found | None
) -> ReverseItem:
    """Raises InvalidValue naming the field. Where no such transfer is known, no value is read."""
    wallet_id, sequence = parse_transfer_id(request.transfer_id)
    atoms = None
    if request.value and found is not None:
        atoms = parse_value(request.value, found.scale, "value")
    return ReverseItem(
        *parse_keyed(request, b"RV", call),
        wallet_id,
        found.asset if found else "",
        found.scale if found else None,
        parse_text(request.reason, "reason"),
        "",
        call.caller,
        sequence,
        found.original if found else None,
        atoms,
    )


def read_reversals(
    items: Sequence[pb.DebitReversal], call: Call, debits: Mapping[str, Posted]
) -> list[DebitReversal | Refused]:
    """Debits to give back; a faulty item is refused by itself."""
    read: list[DebitReversal | Refused] = []
    for index, item in enumerate(items):
        field = f"items[{index}]"
        try:
            debit = debits.get(item.debit_request_id)
            scale = debit.scale if debit is not None else DECIMALS_MAX
            atoms = parse_value(item.value, scale, f"{field}.value")
            if not atoms:
                raise InvalidValue(f"{field}.value", "must be more than zero")
            reason = parse_text(item.reason, f"{field}.reason")
            key = parse_text(item.request_id, f"{field}.request_id", maximum=REVERSAL_KEY_MAX)
        except InvalidValue as refusal:
            read.append(Refused.by(refusal))
            continue
        read.append(
            DebitReversal(
                key,
                item.debit_request_id,
                atoms,
                reason,
                fingerprint_of(b"RD", item),
                clock_of(call),
                call.caller,
            )
        )
    return read


def render_reversed_debit(outcome: ReversedDebit | Refused) -> pb.DebitReversalOutcome:
    if isinstance(outcome, Refused):
        return pb.DebitReversalOutcome(refusal=render_refusal(outcome), replayed=outcome.replayed)
    value = format_atoms(outcome.atoms, outcome.scale)
    return pb.DebitReversalOutcome(
        amount=amount_pb2.Amount(asset=outcome.asset, value=value), replayed=outcome.replayed
    )


def render_debit_detail(detail: DebitDetail) -> pb.DebitDetail:
    posted = detail.posted
    scale = posted.scale
    return pb.DebitDetail(
        request_id=detail.request_id,
        amount=amount_pb2.Amount(asset=posted.asset, value=format_atoms(posted.atoms, scale)),
        shortfall=format_atoms(posted.shortfall, scale),
        transfers=[
            pb.DebitTransfer(
                transfer_id=one.transfer_id,
                value=format_atoms(one.atoms, scale),
                grants=render_parts([(grant or "", atoms) for grant, atoms in one.split], scale),
                reversed=format_atoms(one.reversed, scale),
            )
            for one in detail.transfers
        ],
    )


def parse_correction(
    request: pb.CorrectBalanceRequest, call: Call, scales: Mapping[str, int]
) -> CorrectItem:
    """Raises InvalidValue naming the field."""
    asset, scale, atoms = parse_item_amount(request.amount, scales)
    increase = _DIRECTIONS.get(request.direction)
    if increase is None:
        raise InvalidValue("direction", "is required")
    house = HOUSE.get(request.house_account or "house:correction")
    if house is None:
        raise InvalidValue(
            "house_account", f"{request.house_account!r} is not one of {', '.join(HOUSE)}"
        )
    approver = parse_text(request.approver, "approver", maximum=APPROVER_MAX)
    if approver == call.caller:
        raise InvalidValue("approver", "is the caller")
    grant_id = find_id(request.grant_id, "grant_id")
    expire_time = find_time(request, "expire_time")
    if increase and grant_id:
        raise InvalidValue("grant_id", "goes with OUT")
    if not increase and expire_time is not None:
        raise InvalidValue("expire_time", "goes with IN")
    return CorrectItem(
        *parse_keyed(request, b"CB", call),
        parse_id(request.wallet_id, "wallet_id"),
        asset,
        scale,
        parse_text(request.reason, "reason"),
        approver,
        call.caller,
        atoms,
        increase,
        house,
        grant_id,
        expire_time,
    )


def render_reversed(outcome: Outcome) -> pb.ReverseTransferResponse:
    if not isinstance(outcome, Reversed):
        raise unexpected(outcome)
    scale = outcome.scale
    return pb.ReverseTransferResponse(
        transfer_id=f"{outcome.wallet_id}/{outcome.sequence}",
        amount=amount_pb2.Amount(asset=outcome.asset, value=format_atoms(outcome.atoms, scale)),
        reversible=format_atoms(outcome.left, scale),
        restored=render_parts(outcome.restored, scale),
        refund_grant_id=outcome.refund_grant_id,
        available=format_atoms(outcome.available, scale),
        replayed=outcome.replayed,
    )


def render_corrected(outcome: Outcome) -> pb.CorrectBalanceResponse:
    if not isinstance(outcome, Corrected):
        raise unexpected(outcome)
    scale = outcome.scale
    into, out = pb.CORRECTION_DIRECTION_IN, pb.CORRECTION_DIRECTION_OUT
    return pb.CorrectBalanceResponse(
        transfer_id=f"{outcome.wallet_id}/{outcome.sequence}",
        amount=amount_pb2.Amount(asset=outcome.asset, value=format_atoms(outcome.atoms, scale)),
        direction=into if outcome.increase else out,
        grant_id=outcome.grant_id,
        available=format_atoms(outcome.available, scale),
        replayed=outcome.replayed,
    )


def render_adjustment(adjustment: Adjustment) -> pb.Adjustment:
    return pb.Adjustment(
        request_id=adjustment.request_id,
        kind=pb.AdjustmentKind.ValueType(adjustment.kind),
        wallet_id=adjustment.wallet_id,
        reason=adjustment.reason,
        approver=adjustment.approver,
        caller=adjustment.caller,
        create_time=render_time(adjustment.create_time),
    )
