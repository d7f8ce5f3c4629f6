"""LedgerService."""

from __future__ import annotations

from datetime import UTC, datetime

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.wire import find_time, parse_asset_code, parse_time
from kernel.errors import InvalidValue, NotFound
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.budgets.verification import store as verification
from wallet.grants.store import LAST_ID, has_wallet
from wallet.journal import store
from wallet.journal.domain import Filter, add_up, worst_first
from wallet.journal.records import store as records
from wallet.journal.statements import store as statements
from wallet.journal.statements.wire import parse_filter, render_entries, render_period
from wallet.journal.wire import (
    render_disagreement,
    render_posted,
    render_total,
    render_transfer,
)
from wallet.ledger.wire import parse_id
from wallet.wallets.operations import FIRST_ID

LAST_TIME = datetime(9999, 1, 1, tzinfo=UTC)
DEBITS_DEFAULT, DEBITS_MAX = 1_000, 5_000
VERIFY_DEFAULT, VERIFY_MAX = 200, 1_000
SHARDS_MAX = 256  # a byte of the wallet's id says which


class LedgerService:
    """The journal and what is derived from it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListTransfers(
        self, request: pb.ListTransfersRequest, call: Call
    ) -> pb.ListTransfersResponse:
        wallet_id = parse_id(request.wallet_id, "wallet_id")
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        which = parse_filter(request)
        after = _number(page.after[0]) if page.after else request.after_sequence
        async with self._database.transaction(call.tenant_id) as tx:
            if not await has_wallet(tx, call.tenant_id, wallet_id):
                raise NotFound("wallet", wallet_id)
            transfers = await store.list_transfers(
                tx, call.tenant_id, wallet_id, after, page.size + 1, which
            )
        more = len(transfers) > page.size
        transfers = transfers[: page.size]
        return pb.ListTransfersResponse(
            transfers=[render_transfer(transfer) for transfer in transfers],
            next_page_token=next_token(str(transfers[-1].sequence)) if more else "",
        )

    async def GetStatement(
        self, request: pb.GetStatementRequest, call: Call
    ) -> pb.GetStatementResponse:
        wallet_id = parse_id(request.wallet_id, "wallet_id")
        asset = parse_asset_code(request.asset, "asset") if request.asset else ""
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        start, end = parse_time(request, "start_time"), find_time(request, "end_time")
        if end is not None and end < start:
            raise InvalidValue("end_time", "is before start_time")
        async with self._database.transaction(call.tenant_id) as tx:
            if not await has_wallet(tx, call.tenant_id, wallet_id):
                raise NotFound("wallet", wallet_id)
            archived = await statements.find_archived_time(tx, call.tenant_id, wallet_id)
            if archived is not None and start <= archived:
                raise InvalidValue("start_time", f"moves until {archived.isoformat()} are archived")
            if page.after:
                after, through = _number(page.after[0]), _number(page.after[1])
            else:
                after = await statements.find_last_number(tx, call.tenant_id, wallet_id, start)
                through = await statements.find_last_number(
                    tx, call.tenant_id, wallet_id, end or LAST_TIME
                )
            which = Filter(asset=asset, start=start, through=through)
            periods = await statements.sum_period(
                tx, call.tenant_id, wallet_id, asset, start, after, through
            )
            transfers = await store.list_transfers(
                tx, call.tenant_id, wallet_id, after, page.size + 1, which
            )
        more = len(transfers) > page.size
        transfers = transfers[: page.size]
        return pb.GetStatementResponse(
            balances=[render_period(period) for period in periods],
            entries=render_entries(transfers, {p.asset: p.before_page for p in periods}),
            next_page_token=next_token(str(transfers[-1].sequence), str(through)) if more else "",
        )

    async def ListDebits(self, request: pb.ListDebitsRequest, call: Call) -> pb.ListDebitsResponse:
        page = parse_page(
            request.page_size, request.page_token, DEBITS_DEFAULT, DEBITS_MAX, key_parts=1
        )
        after = page.after[0] if page.after else ""
        async with self._database.transaction(call.tenant_id) as tx:
            debits = await store.list_debits(tx, call.tenant_id, after, page.size + 1)
        more = len(debits) > page.size
        debits = debits[: page.size]
        return pb.ListDebitsResponse(
            debits=[render_posted(debit) for debit in debits],
            next_page_token=next_token(debits[-1].request_id) if more else "",
        )

    async def GetTrialBalance(
        self, request: pb.GetTrialBalanceRequest, call: Call
    ) -> pb.GetTrialBalanceResponse:
        async with self._database.transaction(call.tenant_id) as tx:
            sums = await store.sum_accounts(tx, call.tenant_id)
        return pb.GetTrialBalanceResponse(totals=[render_total(total) for total in add_up(sums)])

    async def VerifyLedger(
        self, request: pb.VerifyLedgerRequest, call: Call
    ) -> pb.VerifyLedgerResponse:
        page = parse_page(
            request.page_size, request.page_token, VERIFY_DEFAULT, VERIFY_MAX, key_parts=1
        )
        after = parse_id(page.after[0], "page_token") if page.after else FIRST_ID
        shards = parse_shards(request.shards, request.shard)
        async with self._database.transaction(call.tenant_id) as tx:
            verified = await store.verify_wallets(
                tx, call.tenant_id, after, page.size, shards, request.shard
            )
            last = verified.last_wallet_id if verified.wallets == page.size else LAST_ID
            found = verified.disagreements + await records.verify_records(
                tx, call.tenant_id, after, last, shards, request.shard
            )
            found += await verification.verify_budgets(
                tx, call.tenant_id, after, last, shards, request.shard
            )
        more = verified.wallets == page.size
        return pb.VerifyLedgerResponse(
            wallets_checked=verified.wallets,
            transfers_checked=verified.transfers,
            disagreements=[
                render_disagreement(disagreement) for disagreement in worst_first(found)
            ],
            next_page_token=next_token(verified.last_wallet_id) if more else "",
        )


def parse_shards(shards: int, shard: int) -> int:
    """Into how many wallets are parted. Raises InvalidValue."""
    count = shards or 1
    if not 1 <= count <= SHARDS_MAX:
        raise InvalidValue("shards", f"takes 1 to {SHARDS_MAX}")
    if not 0 <= shard < count:
        raise InvalidValue("shard", f"takes 0 to {count - 1}")
    return count


def _number(text: str) -> int:
    if not text.isdigit():
        raise InvalidValue("page_token", "is not from this list")
    return int(text)
