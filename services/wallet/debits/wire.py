"""Debits on the wire, and which of them stand and fall together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from kernel.errors import InvalidValue, Refusal
from kernel.money import format_atoms
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.ledger.domain.items import DebitItem
from wallet.ledger.domain.outcomes import Outcome, Posted, Refused
from wallet.ledger.domain.refusals import GroupRefused
from wallet.ledger.wire import (
    find_id,
    fingerprint_of,
    parse_customer,
    parse_item_amount,
    parse_key,
    parse_node,
    parse_over_capture,
    parse_purpose,
    parse_reference,
    render_refusal,
    unexpected,
)

GROUP_MAX = 128


def parse_debit(
    item: pb.DebitItem, tenant_id: str, scales: Mapping[str, int], now: datetime | None
) -> DebitItem:
    """Raises InvalidValue naming the field."""
    request_id = parse_key(item.request_id)
    hold_id = find_id(item.hold_id, "hold_id")
    final = item.final
    asset, scale, atoms = parse_item_amount(
        item.amount, scales, zero_allowed=bool(hold_id) and final
    )
    return DebitItem(
        tenant_id,
        request_id,
        fingerprint_of(b"D", item),
        now,
        parse_customer(item.customer_id),
        find_id(item.wallet_id, "wallet_id"),
        asset,
        scale,
        atoms,
        parse_purpose(item.purpose),
        parse_reference(item.reference),
        hold_id,
        final,
        parse_over_capture(item.over_capture),
        parse_node(item.node),
    )


def group_debits(
    items: Sequence[pb.DebitItem], parsed: Sequence[DebitItem | Refused]
) -> tuple[list[tuple[int, ...]], dict[int, Refused]]:
    """Positions that are decided together, and items refused for what their group is.

    A group with a malformed member is refused here: nothing of it was looked at, so nothing of it
    is kept under its keys.
    """
    bundles: list[tuple[int, ...]] = []
    refused = {i: p for i, p in enumerate(parsed) if isinstance(p, Refused)}
    seen: set[str] = set()
    position = 0
    while position < len(items):
        group = items[position].group
        end = position + 1
        if group:
            while end < len(items) and items[end].group == group:
                end += 1
            found = _refuse_group(range(position, end), items, refused, group, seen)
            refused.update(found)
            seen.add(group)
        members = tuple(i for i in range(position, end) if i not in refused)
        if members:
            bundles.append(members)
        position = end
    return bundles, refused


def _refuse_group(
    members: range,
    items: Sequence[pb.DebitItem],
    refused: Mapping[int, Refused],
    group: str,
    seen: set[str],
) -> dict[int, Refused]:
    why = ""
    if len(group) > GROUP_MAX or not group.isprintable():
        why = f"takes 0 to {GROUP_MAX} printable characters"
    elif group in seen:
        why = "its members do not stand beside each other"
    elif len({items[i].customer_id for i in members}) > 1:
        why = "its members are of several customers"
    if why:
        return {i: Refused.by(InvalidValue("group", why)) for i in members if i not in refused}
    guilty = next((items[i].request_id for i in members if i in refused), None)
    if guilty is None:
        return {}
    return {i: Refused.by(GroupRefused(guilty)) for i in members if i not in refused}


def read_debit(
    item: pb.DebitItem, tenant_id: str, scales: Mapping[str, int], now: datetime | None
) -> DebitItem | Refused:
    """The parsed item, or what is wrong with it."""
    try:
        return parse_debit(item, tenant_id, scales, now)
    except Refusal as refusal:
        return Refused.by(refusal)


def fill_debit(answer: pb.DebitOutcome, outcome: Outcome) -> None:
    """Write an outcome into its place in the answer: messages made apart would be copied there,
    level by level, at twice the cost."""
    if isinstance(outcome, Posted):
        _fill_posted(answer.debit, outcome)
    elif isinstance(outcome, Refused):
        answer.refusal.CopyFrom(render_refusal(outcome))
    else:
        raise unexpected(outcome)
    if outcome.replayed:
        answer.replayed = True


def _fill_posted(debit: pb.Debit, outcome: Posted) -> None:
    scale = outcome.scale
    amount = debit.amount
    amount.asset = outcome.asset
    amount.value = value = format_atoms(outcome.atoms, scale)
    debit.shortfall = format_atoms(outcome.shortfall, scale) if outcome.shortfall else "0"
    shares = debit.shares
    for wallet_id, atoms, number in outcome.shares:
        share = shares.add()
        share.wallet_id = wallet_id
        share.value = value if atoms == outcome.atoms else format_atoms(atoms, scale)
        share.sequence = number
    debit.available = format_atoms(outcome.available, scale)
    if outcome.late:
        debit.late = True
