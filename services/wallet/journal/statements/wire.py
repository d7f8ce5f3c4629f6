"""Filters of the journal and statements on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chassis.wire import find_time, parse_asset_code, parse_text
from kernel.errors import InvalidValue
from kernel.money import format_atoms
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.journal.domain import Filter, Period, Transfer, change_of
from wallet.journal.wire import render_transfer
from wallet.ledger.domain.values import TransferKind
from wallet.ledger.wire import REQUEST_ID_MAX, find_id

KINDS_MAX = 20


def parse_filter(request: pb.ListTransfersRequest) -> Filter:
    """Raises InvalidValue naming the field."""
    if len(request.kinds) > KINDS_MAX:
        raise InvalidValue("kinds", f"takes at most {KINDS_MAX}")
    known = {int(kind) for kind in TransferKind}
    for kind in request.kinds:
        if kind not in known:
            raise InvalidValue("kinds", f"{kind} is not known")
    if request.after_sequence < 0:
        raise InvalidValue("after_sequence", "is negative")
    start, end = find_time(request, "start_time"), find_time(request, "end_time")
    if start is not None and end is not None and end < start:
        raise InvalidValue("end_time", "is before start_time")
    return Filter(
        asset=parse_asset_code(request.asset, "asset") if request.asset else "",
        kinds=tuple(request.kinds),
        start=start,
        end=end,
        request_id=parse_text(request.request_id, "request_id", minimum=0, maximum=REQUEST_ID_MAX),
        grant_id=find_id(request.grant_id, "grant_id"),
    )


def render_period(period: Period) -> pb.StatementBalance:
    scale = period.scale
    return pb.StatementBalance(
        asset=period.asset,
        opening=format_atoms(period.opening, scale),
        credited=format_atoms(period.credited, scale),
        debited=format_atoms(period.debited, scale),
        closing=format_atoms(period.closing, scale),
        opening_held=format_atoms(period.opening_held, scale),
        closing_held=format_atoms(period.closing_held, scale),
    )


def render_entries(
    transfers: Sequence[Transfer], before: Mapping[str, int]
) -> list[pb.StatementEntry]:
    """Entries with the balance after each, from what was in the wallet before the first."""
    running = dict(before)
    entries = []
    for transfer in transfers:
        change = change_of(transfer)
        after = running[transfer.asset] = running.get(transfer.asset, 0) + change
        entries.append(
            pb.StatementEntry(
                transfer=render_transfer(transfer),
                change=format_atoms(change, transfer.scale),
                balance=format_atoms(after, transfer.scale),
            )
        )
    return entries
