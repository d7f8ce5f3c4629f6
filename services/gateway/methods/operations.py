"""What can be done with payment methods."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Database
from chassis.paging import Page
from chassis.requests import claim, record
from gateway.accounts.store import find_provider_account_by_code
from gateway.domain.method import AlreadyExists, PaymentMethod
from gateway.domain.provider_account import ProviderAccountDisabled, ProviderAccountState
from gateway.methods import store
from gateway.methods.wire import NewMethod, render_method
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id
from tollgate.gateway.v1 import payment_service_pb2 as pb


class MethodOperations:
    """Tokens of customers, each bound to one provider account for life."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attach(
        self,
        tenant_id: UUID,
        request: pb.AttachPaymentMethodRequest,
        new: NewMethod,
        now: datetime,
    ) -> pb.AttachPaymentMethodResponse:
        """Store a token; a customer's first is the default. Raises NotFound, AlreadyExists,
        ProviderAccountDisabled."""
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.AttachPaymentMethodResponse.FromString(recorded)
            account = await find_provider_account_by_code(tx, tenant_id, new.provider_account)
            if account is None:
                raise NotFound("provider account", new.provider_account)
            if account.state is ProviderAccountState.DISABLED:
                raise ProviderAccountDisabled(account.code)
            # Lock before looking: of two racing first methods, one only is the default.
            await store.lock_customer(tx, tenant_id, new.customer_id)
            is_first = await store.find_method(tx, tenant_id, new.customer_id, None) is None
            if new.make_default and not is_first:
                await store.clear_default(tx, tenant_id, new.customer_id)
            method = PaymentMethod(
                payment_method_id=new_id(now),
                customer_id=new.customer_id,
                provider_account_id=account.provider_account_id,
                provider_account=account.code,
                provider_token=new.provider_token,
                label=new.label,
                is_default=is_first or new.make_default,
                create_time=now,
            )
            if not await store.insert_method(tx, tenant_id, method):
                raise AlreadyExists("payment method", new.label or "of this token")
            response = pb.AttachPaymentMethodResponse(payment_method=render_method(method))
            await record(tx, tenant_id, request.request_id, response)
        return response

    async def list(self, tenant_id: UUID, customer_id: str, page: Page) -> list[PaymentMethod]:
        """A page of a customer's methods, the default first."""
        after = None
        if page.after:
            try:
                after = (page.after[0] == "default", UUID(page.after[1]))
            except ValueError:
                raise InvalidValue("page_token", "is not from this list") from None
        async with self._database.transaction(tenant_id) as tx:
            return await store.list_methods(tx, tenant_id, customer_id, after, page.size)
