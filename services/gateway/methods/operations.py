"""What can be done with payment methods."""

from __future__ import annotations

import uuid
from datetime import datetime
from uuid import UUID

from chassis.database import Database
from chassis.paging import Page
from chassis.requests import claim, record
from gateway.accounts.store import find_provider_account, find_provider_account_by_code
from gateway.collection.operations import Collector
from gateway.domain.card_data import refuse_card_number
from gateway.domain.method import AlreadyExists, PaymentMethod
from gateway.domain.outcome import Finding
from gateway.domain.provider_account import ProviderAccountDisabled, ProviderAccountState
from gateway.methods import store
from gateway.methods.wire import NewMethod, render_method
from gateway.providers.commands import Detach
from gateway.providers.lines import Lines
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id
from tollgate.gateway.v1 import payment_service_pb2 as pb


class MethodOperations:
    """Tokens of customers, each bound to one provider account for life."""

    def __init__(self, database: Database, collector: Collector, lines: Lines) -> None:
        self._database = database
        self._collector = collector
        self._lines = lines

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
            provider, _ = self._lines.of(account)
            refuse_card_number(new.provider_token, numbers=provider.numeric_tokens)
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
                kind=new.kind,
                provider_customer_id=new.provider_customer_id,
            )
            if not await store.insert_method(tx, tenant_id, method):
                raise AlreadyExists("payment method", new.label or "of this token")
            response = pb.AttachPaymentMethodResponse(payment_method=render_method(method))
            await record(tx, tenant_id, request.request_id, response)
        return response

    async def detach(
        self,
        tenant_id: UUID,
        request: pb.DetachPaymentMethodRequest,
        customer_id: str,
        payment_method_id: UUID,
        now: datetime,
    ) -> pb.DetachPaymentMethodResponse:
        """Forget a method, here at once and then at its provider; raises NotFound.

        Forgetting takes no money: where the provider does not answer, it is told so, and a repeat
        under another key asks again.
        """
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.DetachPaymentMethodResponse.FromString(recorded)
            method = await store.find_method(tx, tenant_id, customer_id, payment_method_id)
            if method is None:
                raise NotFound("payment method", payment_method_id)
            await store.detach(tx, tenant_id, payment_method_id, now)
            account = await find_provider_account(tx, tenant_id, method.provider_account_id)
            assert account is not None, "a method has a provider account"
            response = pb.DetachPaymentMethodResponse()
            await record(tx, tenant_id, request.request_id, response)
        provider, line = self._lines.of(account)
        if provider.detach_method is None:
            return response
        key = str(uuid.uuid5(payment_method_id, "detach"))
        command = Detach(
            method.provider_token, key, method.customer_id, method.provider_customer_id
        )
        told = await self._collector.consult(provider.detach_method(command, line.login), line)
        return pb.DetachPaymentMethodResponse(
            forgotten_by_provider=told.finding is Finding.CANCELED
        )

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
