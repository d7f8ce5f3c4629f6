"""What can be done with hosted pages: opened, looked at, and what came of them kept."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from google.protobuf.message import Message

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.requests import claim, record
from gateway.accounts.store import find_provider_account, find_provider_account_by_code
from gateway.attempts.domain import Kind, Operation
from gateway.attempts.operations import Recorder, Work
from gateway.attempts.store import insert_attempt, insert_operation, lock_operation
from gateway.collection.operations import Collector
from gateway.domain.attempt import LIVE, Attempt, State
from gateway.domain.method import PaymentMethod
from gateway.domain.outcome import Finding, Outcome
from gateway.domain.payment import Payment, PaymentState
from gateway.domain.provider_account import (
    CapabilityMissing,
    ProviderAccount,
    ProviderAccountDisabled,
    ProviderAccountState,
)
from gateway.domain.resolution import Asking
from gateway.domain.session import CANCELED, OPEN, REQUESTED, HostedPage, state_of_attempt
from gateway.methods.store import clear_default, find_method, insert_method, lock_customer
from gateway.payments import store as payments
from gateway.providers.commands import (
    Contact,
    LookSession,
    NewCustomer,
    NewSession,
    Session,
    SessionMode,
    StoredMethod,
)
from gateway.providers.exchange import Line
from gateway.providers.hosted import PAGE
from gateway.providers.lines import Lines
from gateway.providers.plan import Note, Provider
from gateway.providers.registry import ProviderUnreachable
from gateway.sessions import store
from gateway.sessions.wire import NewPage
from kernel.currency import MINOR_DIGITS
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id
from kernel.money import Amount, Asset
from tollgate.gateway.v1 import session_pb2 as pb

REPLY_MARGIN_SECONDS = 0.25
# Names customers at providers: the same one asked for twice is one, also after a crash.
_CUSTOMERS = UUID("1d6f9c1e-3a1b-4a53-8b8e-7e0a52f5c6b1")


class SessionOperations:
    """Pages of tenants. Where a person pays, the page is the payment's live attempt."""

    def __init__(
        self, database: Database, collector: Collector, recorder: Recorder, lines: Lines
    ) -> None:
        self._database = database
        self._collector = collector
        self._recorder = recorder
        self._lines = lines

    # --- opening ---------------------------------------------------------------------------------

    async def create_checkout(
        self, call: Call, request: pb.CreateCheckoutSessionRequest, new: NewPage
    ) -> HostedPage:
        """A page where a person pays. Raises NotFound, CapabilityMissing,
        ProviderAccountDisabled, AmountNotRepresentable, ProviderUnreachable, InvalidValue."""
        tenant_id = call.tenant_id
        account, provider, line, customer = await self._prepare(tenant_id, new, "hosted_pay")
        provider.units(new.amount)
        work: Work | None = None
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                first = pb.CreateCheckoutSessionResponse.FromString(recorded)
                session_id = UUID(first.session.session_id)
            else:
                page, work = await self._intend(
                    tx, call, new, _page(new, account, customer, call.now), provider, line
                )
                session_id = page.session_id
                await _record(tx, tenant_id, request.request_id, request, session_id)
        if work is not None:
            self._collector.start(work)
        page = await self._find(tenant_id, session_id)
        if page.attempt_id is not None:
            seconds = call.seconds_left() - REPLY_MARGIN_SECONDS
            await self._collector.wait(page.attempt_id, seconds)
        return await self._shown(tenant_id, page, call.now)

    async def create_setup(
        self, call: Call, request: pb.CreateSetupSessionRequest, new: NewPage
    ) -> HostedPage:
        """A page where a person stores a method; raises what `create_checkout` raises."""
        tenant_id = call.tenant_id
        account, _, _, customer = await self._prepare(tenant_id, new, "hosted_setup")
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                first = pb.CreateSetupSessionResponse.FromString(recorded)
                session_id = UUID(first.session.session_id)
            else:
                page = _page(new, account, customer, call.now)
                session_id = page.session_id
                await store.insert_session(tx, tenant_id, page)
                await _record(tx, tenant_id, request.request_id, request, session_id)
        return await self.get(tenant_id, session_id, "", call.now)

    async def _prepare(
        self, tenant_id: UUID, new: NewPage, capability: str
    ) -> tuple[ProviderAccount, Provider, Line, str]:
        """The account, and the customer's id there, made where the provider keeps customers."""
        async with self._database.transaction(tenant_id) as tx:
            account = await find_provider_account_by_code(tx, tenant_id, new.provider_account)
            if account is None:
                raise NotFound("provider account", new.provider_account)
            if account.state is ProviderAccountState.DISABLED:
                raise ProviderAccountDisabled(account.code)
            provider, line = self._lines.of(account)
            able = provider.capabilities(line.login)
            if not getattr(able, capability):
                raise CapabilityMissing(capability, account.code)
            account_id = account.provider_account_id
            customer = await store.find_link(tx, tenant_id, account_id, new.customer_id)
        if customer or provider.create_customer is None:
            return account, provider, line, customer
        key = str(uuid.uuid5(_CUSTOMERS, f"{tenant_id}/{account_id}/{new.customer_id}"))
        command = NewCustomer(new.customer_id, key, Contact(**new.contact))
        made = await self._collector.consult(provider.create_customer(command, line.login), line)
        if isinstance(made, Outcome):
            if made.finding is Finding.REJECTED and made.decline_code.islower():
                raise InvalidValue("contact", f"{account.provider} says {made.decline_code}")
            raise ProviderUnreachable(account.provider)
        now = self._collector.clock.now()
        async with self._database.transaction(tenant_id) as tx:
            await store.insert_link(
                tx, tenant_id, account_id, new.customer_id, made.provider_customer_id, now
            )
            customer = await store.find_link(tx, tenant_id, account_id, new.customer_id)
        return account, provider, line, customer

    async def _intend(
        self,
        tx: Connection,
        call: Call,
        new: NewPage,
        page: HostedPage,
        provider: Provider,
        line: Line,
    ) -> tuple[HostedPage, Work]:
        """Write down a payment whose one attempt is the page; nothing is sent before that."""
        assert new.source is not None, "something is paid"
        tenant_id, now = call.tenant_id, call.now
        payment = Payment(
            payment_id=new_id(now),
            customer_id=new.customer_id,
            amount=new.amount,
            source=new.source,
            description=new.description,
            state=PaymentState.PROCESSING,
            outcome_unknown=False,
            create_time=now,
        )
        attempt = Attempt(
            attempt_id=new_id(now),
            payment_id=payment.payment_id,
            number=1,
            provider_account_id=page.provider_account_id,
            provider_account=page.provider_account,
            payment_method_id=None,
            amount=new.amount,
            state=State.REQUESTED,
            create_time=now,
            update_time=now,
        )
        present = self._collector.clock.now()
        operation = Operation(
            operation_id=new_id(now),
            target_id=attempt.attempt_id,
            provider_account_id=page.provider_account_id,
            key=page.key,
            reference=str(attempt.attempt_id),
            asking=Asking(
                start_time=present, sent_time=present, ask_time=present + self._collector.lease
            ),
            tries=1,
            kind=Kind.CHARGE,
        )
        page = replace(page, payment_id=payment.payment_id, attempt_id=attempt.attempt_id)
        payment = replace(payment, attempts=(attempt,))
        work = Work(tenant_id, payment, attempt, operation, "", provider, line, now, page=page)
        await payments.insert_payment(tx, tenant_id, payment)
        await insert_attempt(tx, tenant_id, attempt)
        await store.insert_session(tx, tenant_id, page)
        await insert_operation(tx, tenant_id, operation, work.fingerprint())
        return page, work

    # --- looking ---------------------------------------------------------------------------------

    async def get(
        self, tenant_id: UUID, session_id: UUID, result: str, now: datetime
    ) -> HostedPage:
        """A page as it stands, its provider asked while it is not over; raises NotFound."""
        page = await self._find(tenant_id, session_id)
        if page.pays:
            await self._look_at_payment(tenant_id, page, result)
        elif page.state in (REQUESTED, OPEN):
            await self._look_at_setup(tenant_id, page, result, now)
        return await self._shown(tenant_id, await self._find(tenant_id, session_id), now)

    async def notice(
        self, tenant_id: UUID, account_id: UUID, reference: UUID | None, provider_id: str
    ) -> bool:
        """A provider told of a page: it is looked at. False where it is none of ours."""
        async with self._database.transaction(tenant_id) as tx:
            page = await store.find_told_session(tx, tenant_id, account_id, reference, provider_id)
        if page is None:
            return False
        await self.get(tenant_id, page.session_id, "", self._collector.clock.now())
        return True

    async def _find(self, tenant_id: UUID, session_id: UUID) -> HostedPage:
        async with self._database.transaction(tenant_id) as tx:
            page = await store.find_session(tx, tenant_id, session_id)
        if page is None:
            raise NotFound("session", session_id)
        return page

    async def _shown(self, tenant_id: UUID, page: HostedPage, now: datetime) -> HostedPage:
        """The page with its state; where a person pays, the attempt has it, and the address."""
        if page.payment_id is None:
            return page
        async with self._database.transaction(tenant_id) as tx:
            payment = await payments.find_payment(tx, tenant_id, page.payment_id)
        assert payment is not None, "a page to pay on has a payment"
        attempt = payment.attempts[0]
        action = attempt.action
        expire_time = action.expire_time if action else page.expire_time
        state = state_of_attempt(attempt.state, expire_time, now)
        return replace(page, state=state, url=action.url if action else "", expire_time=expire_time)

    async def _look_at_payment(self, tenant_id: UUID, page: HostedPage, result: str) -> None:
        assert page.attempt_id is not None, "a page to pay on is an attempt"
        async with self._database.transaction(tenant_id) as tx:
            operation = await lock_operation(tx, tenant_id, page.attempt_id)
            work = await self._recorder.load(tx, tenant_id, operation)
        if work is None:
            return
        if work.attempt.state in LIVE:
            await self._collector.ask_now(replace(work, page_result=result))
        elif work.attempt.state is State.SUCCEEDED and page.payment_method_id is None:
            seen = await self._read(work.provider, work.line, page, work.operation.notes, result)
            if isinstance(seen, Session) and seen.method is not None:
                await self._keep_method(tenant_id, page, seen.method)

    async def _look_at_setup(
        self, tenant_id: UUID, page: HostedPage, result: str, now: datetime
    ) -> None:
        async with self._database.transaction(tenant_id) as tx:
            account = await find_provider_account(tx, tenant_id, page.provider_account_id)
        assert account is not None, "a page has a provider account"
        provider, line = self._lines.of(account)
        if page.state == REQUESTED:
            seen = await self._open(tenant_id, page, provider, line)
        else:
            seen = await self._read(provider, line, page, page.notes, result)
        if isinstance(seen, Outcome):
            if seen.finding is Finding.REJECTED and page.state == REQUESTED:
                await self._save(tenant_id, replace(page, state=CANCELED))
            return
        changed = replace(
            page,
            state=seen.state.value,
            provider_session_id=seen.provider_session_id,
            provider_customer_id=seen.provider_customer_id or page.provider_customer_id,
            url=seen.url or page.url,
            expire_time=seen.expire_time or page.expire_time,
        )
        await self._save(tenant_id, changed)
        if seen.method is not None:
            await self._keep_method(tenant_id, changed, seen.method)

    async def _open(
        self, tenant_id: UUID, page: HostedPage, provider: Provider, line: Line
    ) -> Session | Outcome:
        assert provider.create_session is not None, "hosted_setup is declared"

        async def keep(note: Note) -> None:
            async with self._database.transaction(tenant_id) as tx:
                await store.save_note(tx, tenant_id, page.session_id, note.name, note.value)

        command = new_session(page)
        return await self._collector.consult(
            provider.create_session(command, line.login), line, keep
        )

    async def _read(
        self,
        provider: Provider,
        line: Line,
        page: HostedPage,
        notes: Mapping[str, str],
        result: str,
    ) -> Session | Outcome:
        assert provider.read_session is not None, "hosted pages can be looked at"
        look = look_session(page, notes, result)
        return await self._collector.consult(provider.read_session(look, line.login), line)

    async def _save(self, tenant_id: UUID, page: HostedPage) -> None:
        async with self._database.transaction(tenant_id) as tx:
            await store.save_session(tx, tenant_id, page)

    async def _keep_method(self, tenant_id: UUID, page: HostedPage, stored: StoredMethod) -> None:
        """What was stored on the page is the customer's; its first is the default."""
        now = self._collector.clock.now()
        async with self._database.transaction(tenant_id) as tx:
            # Lock before looking: of two witnesses of one page, one only enters the method.
            await lock_customer(tx, tenant_id, page.customer_id)
            again = await store.find_session(tx, tenant_id, page.session_id)
            if again is None or again.payment_method_id is not None:
                return
            is_first = await find_method(tx, tenant_id, page.customer_id, None) is None
            if is_first:
                await clear_default(tx, tenant_id, page.customer_id)
            method = PaymentMethod(
                payment_method_id=new_id(now),
                customer_id=page.customer_id,
                provider_account_id=page.provider_account_id,
                provider_account=page.provider_account,
                provider_token=stored.provider_token,
                label="",
                is_default=is_first,
                create_time=now,
                kind=stored.kind,
                brand=stored.brand,
                last_four=stored.last_four,
                expire_year=stored.expire_year,
                expire_month=stored.expire_month,
                provider_customer_id=stored.provider_customer_id or page.provider_customer_id,
            )
            if await insert_method(tx, tenant_id, method):
                kept = replace(again, payment_method_id=method.payment_method_id)
                await store.save_session(tx, tenant_id, kept)


def new_session(page: HostedPage) -> NewSession:
    """The request that opens a page to store a method on: the same each time it is sent."""
    return NewSession(
        mode=SessionMode.SETUP,
        reference=str(page.session_id),
        key=page.key,
        customer_id=page.customer_id,
        return_url=page.return_url,
        amount=Amount(Asset(page.asset, MINOR_DIGITS[page.asset]), 0),
        description="",
        time=page.create_time,
        provider_customer_id=page.provider_customer_id,
        country=page.country,
        contact=Contact(**page.contact),
        notes=page.notes,
    )


def look_session(page: HostedPage, notes: Mapping[str, str], result: str) -> LookSession:
    """How a page is looked at."""
    return LookSession(
        reference=str(page.attempt_id or page.session_id),
        mode=SessionMode.PAY if page.pays else SessionMode.SETUP,
        provider_session_id=notes.get(PAGE, "") or page.provider_session_id,
        customer_id=page.customer_id,
        provider_customer_id=page.provider_customer_id,
        result=result,
        notes=notes,
    )


def _page(new: NewPage, account: ProviderAccount, customer: str, now: datetime) -> HostedPage:
    return HostedPage(
        session_id=new_id(now),
        pays=new.source is not None,
        customer_id=new.customer_id,
        provider_account_id=account.provider_account_id,
        provider_account=account.code,
        asset=new.amount.asset.code,
        key=str(uuid.uuid4()),
        return_url=new.return_url,
        create_time=now,
        provider_customer_id=customer,
        country=new.country,
        contact=new.contact,
    )


async def _record(
    tx: Connection, tenant_id: UUID, request_id: str, request: Message, session_id: UUID
) -> None:
    """What a repeated request is answered: the session, by its id, as it then stands."""
    kind = (
        pb.CreateCheckoutSessionResponse
        if isinstance(request, pb.CreateCheckoutSessionRequest)
        else pb.CreateSetupSessionResponse
    )
    await record(tx, tenant_id, request_id, kind(session=pb.Session(session_id=str(session_id))))
