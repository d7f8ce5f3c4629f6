"""Opening wallets, changing their state, looking into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

from chassis.call import Call
from chassis.database import Database
from chassis.paging import Page
from chassis.requests import claim, record
from kernel.errors import NotFound
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.ledger.domain.refusals import WalletClosed
from wallet.ledger.domain.values import WalletState
from wallet.wallets import store
from wallet.wallets.domain import (
    WALLETS_OF_A_CUSTOMER_MAX,
    BalanceView,
    TooManyWallets,
    Wallet,
    check_move,
)
from wallet.wallets.wire import render_wallet

FIRST_ID = "00000000-0000-0000-0000-000000000000"


async def create_wallet(
    database: Database, call: Call, request: pb.CreateWalletRequest, wallet: Wallet
) -> pb.CreateWalletResponse:
    """Open a wallet once. Raises TooManyWallets, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.CreateWalletResponse.FromString(recorded)
        count = await store.count_wallets(tx, call.tenant_id, wallet.customer_id)
        if count >= WALLETS_OF_A_CUSTOMER_MAX:
            raise TooManyWallets(wallet.customer_id)
        await store.insert_wallet(tx, call.tenant_id, wallet)
        response = pb.CreateWalletResponse(wallet=render_wallet(wallet))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def set_state(
    database: Database, call: Call, request: pb.SetWalletStateRequest, state: WalletState
) -> pb.SetWalletStateResponse:
    """Freeze, thaw, close. Raises NotFound, WalletClosed, WalletNotEmpty, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.SetWalletStateResponse.FromString(recorded)
        wallet = await store.lock_wallet(tx, call.tenant_id, request.wallet_id)
        if wallet is None:
            raise NotFound("wallet", request.wallet_id)
        balances = await store.list_balances_of_wallet(tx, call.tenant_id, wallet.wallet_id)
        check_move(wallet, state, balances)
        floors = await store.list_floors(tx, call.tenant_id, [wallet.wallet_id])
        wallet = replace(
            wallet,
            state=state,
            overdraft_limits=floors.get(wallet.wallet_id, ()),
            state_cause=request.cause,
            state_time=call.now,
        )
        await store.save_state(tx, call.tenant_id, wallet)
        response = pb.SetWalletStateResponse(wallet=render_wallet(wallet))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def update_wallet(
    database: Database,
    call: Call,
    request: pb.UpdateWalletRequest,
    change: Callable[[Wallet], Wallet],
) -> pb.UpdateWalletResponse:
    """Change what a wallet is. Raises NotFound, WalletClosed, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.UpdateWalletResponse.FromString(recorded)
        # Locked as a batch locks it: an item is decided before or after, never in between.
        wallet = await store.lock_wallet(tx, call.tenant_id, request.wallet_id)
        if wallet is None:
            raise NotFound("wallet", request.wallet_id)
        if wallet.state is WalletState.CLOSED:
            raise WalletClosed(wallet.wallet_id)
        floors = await store.list_floors(tx, call.tenant_id, [wallet.wallet_id])
        wallet = change(replace(wallet, overdraft_limits=floors.get(wallet.wallet_id, ())))
        changed = request.HasField("shortfall_policy")
        await store.save_wallet(tx, call.tenant_id, wallet, call.now, limits_changed=changed)
        response = pb.UpdateWalletResponse(wallet=render_wallet(wallet))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def list_wallets(
    database: Database, tenant_id: UUID, customer_id: str, page: Page
) -> list[Wallet]:
    """One wallet more than the page holds, where there are more."""
    after = ("", -1, FIRST_ID)
    if page.after:
        after = (page.after[0], int(page.after[1]), page.after[2])
    async with database.transaction(tenant_id) as tx:
        wallets = await store.list_wallets(tx, tenant_id, customer_id, after, page.size + 1)
        floors = await store.list_floors(tx, tenant_id, [wallet.wallet_id for wallet in wallets])
    return [replace(w, overdraft_limits=floors.get(w.wallet_id, ())) for w in wallets]


async def get_balances(
    database: Database, tenant_id: UUID, customer_ids: Sequence[str]
) -> list[BalanceView]:
    """Every balance of some customers, as of the last committed change."""
    async with database.transaction(tenant_id) as tx:
        return await store.list_balances_of_customers(tx, tenant_id, customer_ids)
