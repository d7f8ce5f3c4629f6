"""ProviderAccountService: parse, operate, render."""

from __future__ import annotations

from chassis.call import Call
from chassis.paging import next_token, parse_page
from chassis.wire import parse_request_id
from gateway.accounts.operations import AccountOperations
from gateway.accounts.wire import parse_new_provider_account, render_provider_account
from gateway.wire import refuse_card_data
from tollgate.gateway.v1 import payment_service_pb2 as pb


class ProviderAccountService:
    """Merchant logins at providers."""

    def __init__(self, accounts: AccountOperations) -> None:
        self._accounts = accounts

    async def CreateProviderAccount(
        self, request: pb.CreateProviderAccountRequest, call: Call
    ) -> pb.CreateProviderAccountResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        new = parse_new_provider_account(request)
        return await self._accounts.create(call.tenant_id, request, new, call.now)

    async def ListProviderAccounts(
        self, request: pb.ListProviderAccountsRequest, call: Call
    ) -> pb.ListProviderAccountsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        accounts = await self._accounts.list(call.tenant_id, page)
        token = next_token(accounts[-1].code) if len(accounts) == page.size else ""
        return pb.ListProviderAccountsResponse(
            provider_accounts=[render_provider_account(each) for each in accounts],
            next_page_token=token,
        )
