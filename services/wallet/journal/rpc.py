"""LedgerService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from kernel.errors import InvalidValue, NotFound
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.budgets.verification import store as verification
from wallet.grants.store import LAST_ID, has_wallet
from wallet.journal import store
from wallet.journal.domain import add_up, worst_first
from wallet.journal.records import store as records
from wallet.journal.wire import (
    render_disagreement,
    render_posted,
    render_total,
    render_transfer,
)
from wallet.ledger.wire import parse_id
from wallet.wallets.operations import FIRST_ID

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
        after = _number(page.after[0]) if page.after else 0
        async with self._database.transaction(call.tenant_id) as tx:
            if not await has_wallet(tx, call.tenant_id, wallet_id):
                raise NotFound("wallet", wallet_id)
            transfers = await store.list_transfers(
                tx, call.tenant_id, wallet_id, after, page.size + 1
            )
        more = len(transfers) > page.size
        transfers = transfers[: page.size]
        return pb.ListTransfersResponse(
            transfers=[render_transfer(transfer) for transfer in transfers],
            next_page_token=next_token(str(transfers[-1].sequence)) if more else "",
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
            if verified.last_wallet_id:
                found += await verification.verify_budgets(
                    tx, call.tenant_id, after, verified.last_wallet_id
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
