"""WalletService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.wire import parse_member, parse_request_id, parse_text, parse_uuid
from kernel.errors import InvalidValue
from kernel.ids import new_id
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.assets.operations import Scales
from wallet.wallets import operations
from wallet.wallets.jobs import Watcher
from wallet.wallets.wire import (
    CUSTOMER_ID_MAX,
    STATES,
    parse_change,
    parse_wallet,
    render_balance,
    render_wallet,
)

CUSTOMERS_MAX = 1_000
WATCHED_MAX = 100  # by one stream
POSITIONS_MAX = 10_000


class WalletService:
    """Purses and what is in them."""

    def __init__(self, database: Database, scales: Scales, watcher: Watcher) -> None:
        self._database = database
        self._scales = scales
        self._watcher = watcher

    async def CreateWallet(
        self, request: pb.CreateWalletRequest, call: Call
    ) -> pb.CreateWalletResponse:
        parse_request_id(request.request_id)
        codes = {limit.asset for limit in request.shortfall_policy.overdraft_limits}
        scales = await self._scales.of(call.tenant_id, codes)
        wallet = parse_wallet(request, scales, str(new_id(call.now)), call.now)
        return await operations.create_wallet(self._database, call, request, wallet)

    async def UpdateWallet(
        self, request: pb.UpdateWalletRequest, call: Call
    ) -> pb.UpdateWalletResponse:
        parse_request_id(request.request_id)
        parse_uuid(request.wallet_id, "wallet_id")
        codes = {limit.asset for limit in request.shortfall_policy.overdraft_limits}
        change = parse_change(request, await self._scales.of(call.tenant_id, codes))
        return await operations.update_wallet(self._database, call, request, change)

    async def SetWalletState(
        self, request: pb.SetWalletStateRequest, call: Call
    ) -> pb.SetWalletStateResponse:
        parse_request_id(request.request_id)
        parse_uuid(request.wallet_id, "wallet_id")
        parse_text(request.cause, "cause", minimum=0)
        state = parse_member(request.state, STATES, "state")
        return await operations.set_state(self._database, call, request, state)

    async def ListWallets(
        self, request: pb.ListWalletsRequest, call: Call
    ) -> pb.ListWalletsResponse:
        parse_text(request.customer_id, "customer_id", minimum=0, maximum=CUSTOMER_ID_MAX)
        page = parse_page(request.page_size, request.page_token, key_parts=3)
        wallets = await operations.list_wallets(
            self._database, call.tenant_id, request.customer_id, page
        )
        token = ""
        if len(wallets) > page.size:
            wallets = wallets[: page.size]
            last = wallets[-1]
            token = next_token(last.customer_id, str(last.priority), last.wallet_id)
        return pb.ListWalletsResponse(
            wallets=[render_wallet(wallet) for wallet in wallets], next_page_token=token
        )

    async def GetBalances(
        self, request: pb.GetBalancesRequest, call: Call
    ) -> pb.GetBalancesResponse:
        customers = request.customer_ids
        if not 1 <= len(customers) <= CUSTOMERS_MAX:
            raise InvalidValue("customer_ids", f"takes 1 to {CUSTOMERS_MAX} customers")
        for customer_id in customers:
            parse_text(customer_id, "customer_ids", maximum=CUSTOMER_ID_MAX)
        balances = await operations.get_balances(self._database, call.tenant_id, customers)
        return pb.GetBalancesResponse(balances=[render_balance(balance) for balance in balances])

    async def WatchBalances(
        self, request: pb.WatchBalancesRequest, call: Call
    ) -> AsyncIterator[pb.WatchBalancesResponse]:
        if not 1 <= len(request.customer_ids) <= WATCHED_MAX:
            raise InvalidValue("customer_ids", f"takes 1 to {WATCHED_MAX} customers")
        for customer_id in request.customer_ids:
            parse_text(customer_id, "customer_ids", maximum=CUSTOMER_ID_MAX)
        if len(request.positions) > POSITIONS_MAX:
            raise InvalidValue("positions", f"takes at most {POSITIONS_MAX}")
        positions = {
            str(parse_uuid(position.wallet_id, "positions.wallet_id")): position.sequence
            for position in request.positions
        }
        customers = frozenset(request.customer_ids)
        async with self._watcher.watching(call.tenant_id, customers, positions) as watch:
            while balances := await watch.next(call.seconds_left()):
                yield pb.WatchBalancesResponse(
                    balances=[render_balance(balance) for balance in balances]
                )
