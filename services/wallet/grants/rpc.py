"""GrantService."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from kernel.errors import NotFound, Refusal
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.adjustments.store import find_grant_asset
from wallet.assets.operations import Scales
from wallet.grants import store
from wallet.grants.wire import (
    parse_expiry,
    parse_grant,
    parse_void_grant,
    render_grant,
    render_granted,
    render_voided,
)
from wallet.ledger.domain.items import GrantItem, WalletItem
from wallet.ledger.domain.outcomes import Outcome, Refused
from wallet.ledger.operations import Ledger
from wallet.ledger.wire import answered, check_count, clock_of, parse_id


class GrantService:
    """Value comes in."""

    def __init__(self, ledger: Ledger, scales: Scales, database: Database) -> None:
        self._ledger = ledger
        self._scales = scales
        self._database = database

    async def CreateGrants(
        self, request: pb.CreateGrantsRequest, call: Call
    ) -> pb.CreateGrantsResponse:
        outcomes = await self._create(request.items, call)
        return pb.CreateGrantsResponse(outcomes=[render_granted(outcome) for outcome in outcomes])

    async def CreateGrant(
        self, request: pb.CreateGrantRequest, call: Call
    ) -> pb.CreateGrantResponse:
        (outcome,) = await self._create([request.item], call)
        answer = render_granted(answered(outcome))
        return pb.CreateGrantResponse(grant=answer.grant, replayed=answer.replayed)

    async def VoidGrant(self, request: pb.VoidGrantRequest, call: Call) -> pb.VoidGrantResponse:
        asset, scale = await self._asset_of(request, call)
        item = parse_void_grant(request, call, asset, scale)
        return render_voided(await self._change(item))

    async def ChangeGrantExpiry(
        self, request: pb.ChangeGrantExpiryRequest, call: Call
    ) -> pb.ChangeGrantExpiryResponse:
        asset, scale = await self._asset_of(request, call)
        item = parse_expiry(request, call, asset, scale)
        answer = render_granted(await self._change(item))
        return pb.ChangeGrantExpiryResponse(grant=answer.grant, replayed=answer.replayed)

    async def _asset_of(
        self, request: pb.VoidGrantRequest | pb.ChangeGrantExpiryRequest, call: Call
    ) -> tuple[str, int | None]:
        """What a grant is of. One that is not there is refused in the batch, under its key."""
        wallet_id = parse_id(request.wallet_id, "wallet_id")
        grant_id = parse_id(request.grant_id, "grant_id")
        async with self._database.transaction(call.tenant_id) as tx:
            found = await find_grant_asset(tx, call.tenant_id, wallet_id, grant_id)
        return found or ("", None)

    async def _change(self, item: WalletItem) -> Outcome:
        await self._ledger.routes.find_wallets(item.tenant_id, [item.wallet_id])
        (outcome,) = await self._ledger.apply_items([item])
        return answered(outcome)

    async def _create(self, requested: Sequence[pb.GrantItem], call: Call) -> list[Outcome]:
        check_count(len(requested))
        codes = {item.amount.asset for item in requested}
        scales = await self._scales.of(call.tenant_id, codes)
        tenant_id, now = str(call.tenant_id), clock_of(call)
        outcomes: list[Outcome | None] = []
        items: list[GrantItem] = []
        for item in requested:
            try:
                items.append(parse_grant(item, tenant_id, scales, now))
                outcomes.append(None)
            except Refusal as refusal:
                outcomes.append(Refused.by(refusal))
        await self._ledger.routes.find_wallets(tenant_id, [item.wallet_id for item in items])
        answers = iter(await self._ledger.apply_items(items))
        return [outcome or next(answers) for outcome in outcomes]

    async def ListGrants(self, request: pb.ListGrantsRequest, call: Call) -> pb.ListGrantsResponse:
        wallet_id = parse_id(request.wallet_id, "wallet_id")
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        before = page.after[0] if page.after else store.LAST_ID
        async with self._database.transaction(call.tenant_id) as tx:
            if not await store.has_wallet(tx, call.tenant_id, wallet_id):
                raise NotFound("wallet", wallet_id)
            grants = await store.list_grants(tx, call.tenant_id, wallet_id, before, page.size + 1)
        more = len(grants) > page.size
        grants = grants[: page.size]
        return pb.ListGrantsResponse(
            grants=[render_grant(grant, held) for grant, held in grants],
            next_page_token=next_token(grants[-1][0].grant_id) if more else "",
        )
