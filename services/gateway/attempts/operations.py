"""Recording what evidence says about an attempt: one transaction, whoever the witness is."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog

from chassis.database import Connection, Database
from chassis.messages import append
from chassis.metrics import Metrics
from gateway.accounts.store import find_provider_account, save_state
from gateway.attempts import store
from gateway.attempts.domain import Kind, Operation, fingerprint_of
from gateway.attempts.wire import MESSAGE_KINDS, render_change
from gateway.collection.domain import Standing
from gateway.domain.attempt import Applied, Attempt, State, apply
from gateway.domain.method import PaymentMethod
from gateway.domain.outcome import (
    UNCLEAR,
    Basis,
    DeclineClass,
    Finding,
    Outcome,
    Witness,
    as_evidence,
)
from gateway.domain.payment import Payment, project, siblings_of
from gateway.domain.provider_account import (
    Capabilities,
    ProviderAccount,
    ProviderAccountState,
)
from gateway.domain.refund import new_refund, refundable
from gateway.domain.resolution import (
    NEVER_REACHED_PROVIDER,
    Asking,
    Question,
    absence_is_proof,
    after_empty_find,
    entering,
    needs_asking,
    questions,
    scheduled,
)
from gateway.domain.session import HostedPage
from gateway.methods.store import find_method
from gateway.payments import store as payments
from gateway.providers.commands import Contact, LookSession, NewSession, SessionMode
from gateway.providers.driver import Line, Played
from gateway.providers.hosted import PAGE, look_at_page, open_page
from gateway.providers.lines import Lines
from gateway.providers.plan import Charge, Look, Plan, Provider
from gateway.refunds import store as refunds
from gateway.sessions.store import find_page_of
from kernel.clock import Clock
from kernel.ids import new_id

log = structlog.get_logger("gateway.attempts")

UNWANTED = "paid twice, or after it was called off"  # why the gateway itself sends money back

TenantNow = Callable[[UUID], Awaitable[datetime]]


@dataclass(frozen=True, slots=True)
class Work:
    """All that is needed to carry out, or to ask about, one attempt: an errand."""

    tenant_id: UUID
    payment: Payment
    attempt: Attempt
    operation: Operation
    provider_token: str
    provider: Provider
    line: Line
    now: datetime | None = None  # the tenant's time as the call had it; None: work without a call
    page: HostedPage | None = None  # where a person pays by itself, the attempt is the page
    page_result: str = ""  # what the provider handed the browser
    method: PaymentMethod | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self.provider.capabilities(self.line.login)

    @property
    def waited_for(self) -> UUID:
        return self.attempt.attempt_id

    @property
    def standing(self) -> Standing:
        return standing_of(self.attempt.state)

    @property
    def stage(self) -> State:
        return self.attempt.state

    def offered(self, unknown: bool, now: datetime) -> tuple[Question, ...]:
        asked = questions(
            State.UNKNOWN if unknown else self.attempt.state,
            self.capabilities,
            self.operation.asking,
            has_provider_id=bool(self.attempt.provider_payment_id),
            wanted=not self.payment.cancel_requested,
            now=now,
        )
        if self.page is None:
            return asked
        # A page is looked at itself, whatever payments may be asked for: it tells its payment.
        replay = tuple(each for each in asked if each is Question.REPLAY)
        return (*replay, Question.READ) if PAGE in self.operation.notes else replay

    def send(self) -> Plan:
        if self.page is not None:
            return open_page(self.provider, self._new_session(self.page), self.line.login)
        return self.provider.charge(self.charge(), self.line.login)

    def read(self) -> Plan:
        if self.page is not None:
            return look_at_page(self.provider, self._look_session(self.page), self.line.login)
        assert self.provider.read is not None, "read_by_id is declared"
        return self.provider.read(self.look(), self.line.login)

    def find(self) -> Plan:
        assert self.provider.find is not None, "lookup is declared"
        return self.provider.find(self.look(), self.line.login)

    def charge(self) -> Charge:
        """The request itself: the same, word for word, each time it is sent."""
        return Charge(
            reference=self.operation.reference,
            key=self.operation.key,
            amount=self.payment.amount,
            provider_token=self.provider_token,
            customer_id=self.payment.customer_id,
            description=self.payment.description,
            time=self.attempt.create_time,
            notes=self.operation.notes,
            capture_later=self.payment.capture_later,
            provider_customer_id=self.method.provider_customer_id if self.method else "",
            method_kind=self.method.kind if self.method else "",
        )

    def fingerprint(self) -> bytes:
        """What the operation's key stands for."""
        return fingerprint_of(self.charge())

    def _new_session(self, page: HostedPage) -> NewSession:
        return NewSession(
            mode=SessionMode.PAY,
            reference=self.operation.reference,
            key=self.operation.key,
            customer_id=page.customer_id,
            return_url=page.return_url,
            amount=self.payment.amount,
            description=self.payment.description,
            time=self.attempt.create_time,
            provider_customer_id=page.provider_customer_id,
            country=page.country,
            contact=Contact(**page.contact),
            notes=self.operation.notes,
        )

    def _look_session(self, page: HostedPage) -> LookSession:
        return LookSession(
            reference=self.operation.reference,
            mode=SessionMode.PAY,
            provider_session_id=self.operation.notes[PAGE],
            customer_id=page.customer_id,
            provider_customer_id=page.provider_customer_id,
            result=self.page_result,
            notes=self.operation.notes,
        )

    def look(self) -> Look:
        return Look(
            reference=self.operation.reference,
            amount=self.payment.amount,
            provider_payment_id=self.attempt.provider_payment_id,
            customer_id=self.payment.customer_id,
            time=self.attempt.create_time,
            notes=self.operation.notes,
            capture_later=self.payment.capture_later,
            provider_token=self.provider_token,
            provider_customer_id=self.method.provider_customer_id if self.method else "",
        )


def standing_of(state: State) -> Standing:
    """How far an attempt is, as far as asking is concerned."""
    match state:
        case State.REQUESTED:
            return Standing.REQUESTED
        case State.UNKNOWN:
            return Standing.UNKNOWN
    return Standing.WAITING if needs_asking(state) else Standing.ENDED


class Recorder:
    """Loads the work of an attempt, and records what was found out about it."""

    def __init__(
        self,
        database: Database,
        lines: Lines,
        metrics: Metrics,
        clock: Clock,
        tenant_now: TenantNow,
    ) -> None:
        self._database = database
        self._lines = lines
        self._metrics = metrics
        self._clock = clock
        self._tenant_now = tenant_now

    async def load(self, tx: Connection, tenant_id: UUID, operation: Operation) -> Work | None:
        """The work of an operation as it stands."""
        attempt = await store.find_attempt(
            tx, tenant_id, operation.provider_account_id, operation.target_id, ""
        )
        account = await find_provider_account(tx, tenant_id, operation.provider_account_id)
        if attempt is None or account is None:
            return None
        payment = await payments.find_payment(tx, tenant_id, attempt.payment_id)
        assert payment is not None, "an attempt has a payment"
        provider, line = self._lines.of(account)
        if attempt.payment_method_id is None:
            page = await find_page_of(tx, tenant_id, attempt.attempt_id)
            assert page is not None, "an attempt has a method, or is a page"
            return Work(tenant_id, payment, attempt, operation, "", provider, line, page=page)
        method = await find_method(tx, tenant_id, payment.customer_id, attempt.payment_method_id)
        assert method is not None, "methods are never removed"
        token = method.provider_token
        return Work(tenant_id, payment, attempt, operation, token, provider, line, method=method)

    async def record(
        self,
        errand: Work,
        played: Played,
        witness: Witness,
        *,
        last: bool,
        machine_now: datetime | None = None,
    ) -> Work:
        """Record what a plan came to, and set when to ask next; returns the work as it is now.

        Where the answer is not clear and `last` is false, the lease is kept: more is asked.
        """
        present = machine_now or self._clock.now()
        tenant_now = errand.now or await self._tenant_now(errand.tenant_id)
        async with self._database.transaction(errand.tenant_id) as tx:
            applied = await self.apply(
                tx, errand, played, witness, last=last, present=present, tenant_now=tenant_now
            )
        self.report(errand, applied)
        return replace(errand, attempt=applied.attempt)

    async def apply(
        self,
        tx: Connection,
        work: Work,
        played: Played,
        witness: Witness,
        *,
        last: bool,
        present: datetime,
        tenant_now: datetime,
    ) -> Applied:
        """The same inside a caller's transaction."""
        tenant_id, attempt_id = work.tenant_id, work.attempt.attempt_id
        # Lock before looking: of two witnesses of one fact, the second must find it decided.
        payment = await payments.lock_payment(tx, tenant_id, work.payment.payment_id)
        assert payment is not None, "payments are never removed"
        states = {each.attempt_id: each.state for each in payment.attempts}
        attempt = next(each for each in payment.attempts if each.attempt_id == attempt_id)
        operation = await store.lock_operation(tx, tenant_id, attempt_id)

        outcome, asking = weigh(
            as_evidence(played.outcome, witness), operation.asking, work.capabilities, present
        )
        siblings = siblings_of(attempt_id, states)
        applied = apply(attempt, outcome, siblings, tenant_now, work.attempt.state)
        if applied.attempt != attempt:
            await store.save_attempt(tx, tenant_id, applied.attempt)
        evidence = store.Evidence(
            attempt_id,
            witness,
            outcome.finding,
            applied.before.value,
            applied.attempt.state.value,
            outcome.detail,
            [alert.value for alert in applied.alerts],
        )
        await store.append_evidence(tx, tenant_id, evidence, present)
        calls_of = work.operation.operation_id  # of a capture, where a capture was asked
        await store.append_calls(tx, tenant_id, calls_of, played.calls, present)

        asking = entering(asking, applied.attempt.state, present)
        if last or outcome.finding not in UNCLEAR:
            asking = scheduled(asking, present)
        done = not needs_asking(applied.attempt.state) and not applied.ask_again
        await store.save_operation(tx, tenant_id, operation.operation_id, asking, done=done)
        if asking.handed_over and not operation.asking.handed_over:
            log.error("outcome_needs_people", attempt_id=str(attempt_id))
        if applied.changed:
            await self._tell(tx, work, applied, states, payment.cancel_requested, tenant_now)
            if not needs_asking(applied.attempt.state):
                await store.close_orders(tx, tenant_id, attempt_id)
            if payment.cancel_requested or siblings.paid:
                await self._unwind(tx, work, applied.attempt, present, tenant_now)
        await judge_account(tx, tenant_id, work.line.account, played)
        return applied

    async def _tell(
        self,
        tx: Connection,
        work: Work,
        applied: Applied,
        states: dict[UUID, State],
        cancel_requested: bool,
        tenant_now: datetime,
    ) -> None:
        attempt = applied.attempt
        state, unknown = project(
            [*(states | {attempt.attempt_id: attempt.state}).values()],
            cancel_requested=cancel_requested,
        )
        await payments.save_state(
            tx, work.tenant_id, attempt.payment_id, state, unknown, tenant_now
        )
        kind = MESSAGE_KINDS.get(attempt.state)
        if kind is not None and applied.tell:
            await append(tx, work.tenant_id, kind, render_change(work.payment, attempt))

    async def _unwind(
        self, tx: Connection, work: Work, attempt: Attempt, present: datetime, tenant_now: datetime
    ) -> None:
        """Money came for what nobody wants any more, or what is paid already: it goes back.

        The intent to send it back is committed with the news; jobs carry it out.
        """
        able, reference = work.capabilities, str(attempt.attempt_id)
        left = refundable(attempt)
        if attempt.state is State.SUCCEEDED and able.refund and left.atoms > 0:
            refund = new_refund(attempt, left, UNWANTED, tenant_now)
            await refunds.insert_refund(tx, work.tenant_id, refund)
            await store.reserve_refund(tx, work.tenant_id, attempt.attempt_id, left.atoms)
            kind, target_id, reference = Kind.REFUND, refund.refund_id, str(refund.refund_id)
            digest = hashlib.sha256(reference.encode()).digest()
        elif attempt.state is State.AUTHORIZED and able.cancel:
            if await store.has_open_order(tx, work.tenant_id, attempt.attempt_id):
                return
            kind, target_id = Kind.CANCEL, attempt.attempt_id
            digest = hashlib.sha256(f"cancel {reference}".encode()).digest()
        else:
            return
        operation = Operation(
            operation_id=new_id(present),
            target_id=target_id,
            provider_account_id=attempt.provider_account_id,
            key=str(uuid.uuid4()),
            reference=reference,
            asking=Asking(start_time=present, sent_time=present, ask_time=present),
            kind=kind,
        )
        await store.insert_operation(tx, work.tenant_id, operation, digest)

    def report(self, work: Work, applied: Applied) -> None:
        """Count a change that is committed, and tell people what they must know of."""
        attempt = applied.attempt
        if applied.changed:
            declined = attempt.decline_class.value if attempt.decline_class else ""
            self._metrics.attempts_total.of(work.provider.name, attempt.state.value, declined).add()
        for alert in applied.alerts:
            log.error(
                "payment_alert",
                alert=alert.value,
                tenant_id=str(work.tenant_id),
                payment_id=str(attempt.payment_id),
                attempt_id=str(attempt.attempt_id),
            )


def weigh(
    outcome: Outcome, asking: Asking, capabilities: Capabilities, now: datetime
) -> tuple[Outcome, Asking]:
    """An empty find is silence until a second one, late enough, makes it proof of absence."""
    if outcome.finding is not Finding.ABSENT:
        return outcome, asking
    if absence_is_proof(asking, capabilities, now):
        proved = replace(
            outcome,
            decline_code=NEVER_REACHED_PROVIDER,
            decline_class=DeclineClass.TECHNICAL,
            retryable=True,
        )
        return proved, asking
    silent = replace(outcome, finding=Finding.SILENCE, detail="found nothing, which is no proof")
    return silent, after_empty_find(asking, capabilities, now)


async def judge_account(
    tx: Connection, tenant_id: UUID, account: ProviderAccount, played: Played
) -> None:
    """An account whose credentials are refused is degraded until they are taken again."""
    if played.outcome.basis is Basis.ACCESS:
        state = ProviderAccountState.DEGRADED
        log.error("credentials_refused", provider_account=account.code, why=played.outcome.detail)
    elif any(200 <= call.status < 300 for call in played.calls):
        state = ProviderAccountState.ACTIVE
    else:
        return
    if account.state not in (state, ProviderAccountState.DISABLED):
        await save_state(tx, tenant_id, account.provider_account_id, state)
