"""What can be done with provider accounts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Database
from chassis.paging import Page
from chassis.requests import claim, record
from gateway.accounts import store
from gateway.accounts.wire import NewProviderAccount, render_provider_account
from gateway.domain.method import AlreadyExists
from gateway.domain.provider_account import ProviderAccount, ProviderAccountState
from gateway.providers.lines import Lines
from kernel.ids import new_id
from tollgate.gateway.v1 import payment_service_pb2 as pb


class AccountOperations:
    """Provider accounts of tenants, at the providers that this deployment knows."""

    def __init__(self, database: Database, lines: Lines) -> None:
        self._database = database
        self._lines = lines

    async def create(
        self,
        tenant_id: UUID,
        request: pb.CreateProviderAccountRequest,
        new: NewProviderAccount,
        now: datetime,
    ) -> pb.CreateProviderAccountResponse:
        """A provider account, in use at once; raises InvalidValue, AlreadyExists,
        ProviderUnreachable."""
        self._lines.check(self._lines.registry.find(new.provider), new.endpoint)
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.CreateProviderAccountResponse.FromString(recorded)
            account = ProviderAccount(
                provider_account_id=new_id(now),
                code=new.code,
                provider=new.provider,
                endpoint=new.endpoint,
                state=ProviderAccountState.ACTIVE,
                create_time=now,
                merchant=new.merchant,
                secret_reference=new.secret_reference,
                notification_secret_reference=new.notification_secret_reference,
            )
            if not await store.insert_provider_account(tx, tenant_id, account):
                raise AlreadyExists("provider account", new.code)
            response = pb.CreateProviderAccountResponse(
                provider_account=render_provider_account(account)
            )
            await record(tx, tenant_id, request.request_id, response)
        return response

    async def list(self, tenant_id: UUID, page: Page) -> list[ProviderAccount]:
        """A page of provider accounts, by code."""
        after = page.after[0] if page.after else ""
        async with self._database.transaction(tenant_id) as tx:
            return await store.list_provider_accounts(tx, tenant_id, after, page.size)
