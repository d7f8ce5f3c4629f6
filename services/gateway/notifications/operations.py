"""Notifications: authenticated and kept before they are answered, applied by a worker."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog

from chassis.database import Connection, Database
from chassis.metrics import Metrics
from gateway.accounts.store import find_provider_account, find_tenant
from gateway.attempts.operations import Recorder, TenantNow, Work
from gateway.attempts.store import find_attempt, lock_operation
from gateway.collection.operations import Collector
from gateway.domain.attempt import finding_of, step
from gateway.domain.card_data import scrub
from gateway.domain.outcome import UNCLEAR, Outcome, Witness, as_evidence
from gateway.domain.provider_account import NotificationAuth, ProviderAccount
from gateway.domain.refund import apply as apply_to_refund
from gateway.notifications import store
from gateway.notifications.domain import (
    REFUSED_AN_HOUR_MAX,
    TRIES_MAX,
    Kept,
    NotificationState,
    retry_after,
)
from gateway.providers.commands import About
from gateway.providers.driver import Played
from gateway.providers.exchange import Line
from gateway.providers.lines import Lines
from gateway.providers.plan import Delivery, Item, Provider, Reading
from gateway.refunds.domain import RefundWork
from gateway.refunds.operations import RefundRecorder
from gateway.refunds.store import find_told_refund
from kernel.clock import Clock
from kernel.ids import new_id

DUE_TOGETHER_MAX = 16
LEASE = timedelta(seconds=120)
# Only what helps to read a notification later; credentials among the headers are not kept.
_HEADERS_KEPT = frozenset({"content-type", "user-agent", "date"})

log = structlog.get_logger("gateway.notifications")


# Looks at a page that a provider tells of; False where it is none of ours.
NoticeSession = Callable[[UUID, UUID, UUID | None, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the provider is answered."""

    status: int
    body: bytes = b""


NO_SUCH_ACCOUNT = Receipt(404)
NOT_NOW = Receipt(503)  # to be sent again


class NotYet(Exception):
    """A notification cannot be applied now; it is tried again."""


class NotificationOperations:
    """What arrives from providers, of every tenant."""

    def __init__(
        self,
        database: Database,
        collector: Collector,
        recorder: Recorder,
        refunds: RefundRecorder,
        lines: Lines,
        metrics: Metrics,
        clock: Clock,
        tenant_now: TenantNow,
        notice_session: NoticeSession,
    ) -> None:
        self.clock = clock
        self._database = database
        self._collector = collector
        self._recorder = recorder
        self._refunds = refunds
        self._lines = lines
        self._metrics = metrics
        self._tenant_now = tenant_now
        self._notice_session = notice_session

    # --- receiving --------------------------------------------------------------------------------

    async def receive(
        self, provider_account_id: UUID, headers: Mapping[str, str], body: bytes
    ) -> Receipt:
        """Authenticate a notification and keep its items; header names are lower case."""
        async with self._database.unscoped() as connection:
            tenant_id = await find_tenant(connection, provider_account_id)
        if tenant_id is None:
            return NO_SUCH_ACCOUNT
        async with self._database.transaction(tenant_id) as tx:
            account = await find_provider_account(tx, tenant_id, provider_account_id)
        if account is None:
            return NO_SUCH_ACCOUNT
        provider, line = self._lines.of(account)
        now = self.clock.now()
        if provider.ask_reading is not None:
            plan = provider.ask_reading(Delivery(headers, body, (), now), line.login)
            answered = await self._collector.consult(plan, line)
            if isinstance(answered, Outcome):
                log.warning("notification_not_read", account=account.code, why=answered.detail)
                return NOT_NOW
            reading = answered
        elif provider.read_notification is not None:
            secrets = self._lines.notification_secrets(account)
            reading = provider.read_notification(Delivery(headers, body, secrets, now), line.login)
        else:
            return NO_SUCH_ACCOUNT
        if not reading.authentic:
            await self._refuse(tenant_id, account, headers, body, reading.why, now)
            return Receipt(reading.status or provider.refusal_status, reading.body)
        await self._keep(tenant_id, account, headers, body, reading, now)
        return (
            Receipt(reading.status, reading.body)
            if reading.status
            else Receipt(*provider.acknowledgement)
        )

    async def _keep(
        self,
        tenant_id: UUID,
        account: ProviderAccount,
        headers: Mapping[str, str],
        body: bytes,
        reading: Reading,
        now: datetime,
    ) -> None:
        kept = _kept_headers(headers)
        # An id that is lost could not be looked up; a card number is never one of these.
        known = frozenset(
            part
            for item in reading.items
            for part in (*item.id.split(":"), item.provider_payment_id, item.object_id)
        )
        scrubbed = scrub(body.decode("utf-8", "replace"), known).encode()
        digest = hashlib.sha256(body).digest()
        async with self._database.transaction(tenant_id) as tx:
            fresh = [
                await store.insert_item(
                    tx,
                    tenant_id,
                    new_id(now),
                    account.provider_account_id,
                    item,
                    kept,
                    scrubbed,
                    digest,
                    now,
                )
                for item in reading.items
            ]
        for is_fresh in fresh:
            state = "RECEIVED" if is_fresh else "DUPLICATE"
            self._metrics.notifications_total.of(account.provider, state).add()

    async def _refuse(
        self,
        tenant_id: UUID,
        account: ProviderAccount,
        headers: Mapping[str, str],
        body: bytes,
        why: str,
        now: datetime,
    ) -> None:
        self._metrics.notifications_total.of(account.provider, "REFUSED").add()
        account_id = account.provider_account_id
        async with self._database.transaction(tenant_id) as tx:
            refused = await store.count_refused(
                tx, tenant_id, account_id, now - timedelta(hours=1), REFUSED_AN_HOUR_MAX
            )
            # Somebody who guesses must not be able to fill the disk.
            if refused < REFUSED_AN_HOUR_MAX:
                digest = hashlib.sha256(body).digest()
                await store.insert_refused(
                    tx, tenant_id, new_id(now), account_id, _kept_headers(headers), digest, why, now
                )

    # --- applying ---------------------------------------------------------------------------------

    async def apply_due(self, now: datetime) -> int:
        """Apply what is due, each in a transaction of its own; returns how many were due."""
        async with self._database.unscoped() as connection:
            due = await store.list_due(connection, now, DUE_TOGETHER_MAX)
        results = await asyncio.gather(
            *(self._apply(tenant_id, each, now) for tenant_id, each in due),
            return_exceptions=True,
        )
        for (_, notification_id), result in zip(due, results, strict=True):
            if isinstance(result, BaseException):
                log.error(
                    "notification_failed", notification_id=str(notification_id), exc_info=result
                )
        return len(due)

    async def _apply(self, tenant_id: UUID, notification_id: UUID, now: datetime) -> None:
        async with self._database.transaction(tenant_id) as tx:
            kept = await store.take(tx, tenant_id, notification_id, now, LEASE)
        if kept is None:
            return
        try:
            state = await self._apply_kept(tenant_id, kept, now)
        except Exception as error:
            dead = kept.tries >= TRIES_MAX
            state = NotificationState.DEAD if dead else NotificationState.RECEIVED
            await self._put_off(tenant_id, kept, state, error, now)
            if not isinstance(error, NotYet):
                raise
        provider = await self._provider_of(tenant_id, kept)
        self._metrics.notifications_total.of(provider, state.value).add()

    async def _apply_kept(self, tenant_id: UUID, kept: Kept, now: datetime) -> NotificationState:
        item, work = await self._load(tenant_id, kept)
        if item is not None and item.about is About.SESSION:
            # That somebody was there proves nothing: the page itself is looked at.
            ours = await self._notice_session(
                tenant_id, kept.provider_account_id, _reference(item.reference), item.object_id
            )
            state = NotificationState.APPLIED if ours else NotificationState.IGNORED
            async with self._database.transaction(tenant_id) as tx:
                await store.save_state(tx, tenant_id, kept.notification_id, state)
            return state
        if item is None or item.outcome is None or work is None:
            async with self._database.transaction(tenant_id) as tx:
                await store.save_state(
                    tx, tenant_id, kept.notification_id, NotificationState.IGNORED
                )
            return NotificationState.IGNORED
        played = Played(item.outcome, ())
        if _would_change(work, item.outcome):
            played = await self._verified(work, played)
        tenant_now = await self._tenant_now(tenant_id)
        report: Callable[[], None]
        async with self._database.transaction(tenant_id) as tx:
            if isinstance(work, RefundWork):
                told = await self._refunds.apply(
                    tx,
                    work,
                    played,
                    Witness.NOTIFICATION,
                    last=True,
                    present=now,
                    tenant_now=tenant_now,
                )
                report = partial(self._refunds.report, work, told)
            else:
                applied = await self._recorder.apply(
                    tx,
                    work,
                    played,
                    Witness.NOTIFICATION,
                    last=True,
                    present=now,
                    tenant_now=tenant_now,
                )
                report = partial(self._recorder.report, work, applied)
            await store.save_state(tx, tenant_id, kept.notification_id, NotificationState.APPLIED)
        report()
        return NotificationState.APPLIED

    async def _verified(self, work: Work | RefundWork, told: Played) -> Played:
        """What the thing itself says now. A notification may be old, and out of order."""
        looked = await self._collector.look(work)
        if looked is None:
            auth = work.capabilities.notification_auth
            if auth in (NotificationAuth.NONE, NotificationAuth.BASIC):
                raise NotYet("nothing signs it, and what it tells of cannot be looked at")
            return told
        if as_evidence(looked.outcome, Witness.READ).finding in UNCLEAR:
            raise NotYet(f"what it tells of could not be looked at: {looked.outcome.detail}")
        return looked

    async def _load(
        self, tenant_id: UUID, kept: Kept
    ) -> tuple[Item | None, Work | RefundWork | None]:
        async with self._database.transaction(tenant_id) as tx:
            account = await find_provider_account(tx, tenant_id, kept.provider_account_id)
            assert account is not None, "provider accounts are never removed"
            provider, line = self._lines.of(account)
        item = await self._item_of(provider, line, kept)
        if item is None:
            return None, None
        async with self._database.transaction(tenant_id) as tx:
            work = await self._find_work(tx, tenant_id, kept.provider_account_id, item)
        if work is None and item.about in (About.PAYMENT, About.REFUND):
            log.warning("notification_of_a_stranger", kind=item.kind, account=account.code)
        return item, work

    async def _item_of(self, provider: Provider, line: Line, kept: Kept) -> Item | None:
        """The kept item, read again by today's code; raises NotYet where it cannot be."""
        items: tuple[Item, ...] = ()
        if provider.ask_reading is not None:
            again = Delivery({}, kept.body, (), self.clock.now(), verified=True)
            read = await self._collector.consult(provider.ask_reading(again, line.login), line)
            if isinstance(read, Outcome):
                raise NotYet(f"its provider did not read it: {read.detail}")
            items = read.items
        elif provider.read_items is not None:
            items = provider.read_items(kept.body)
        return next((item for item in items if item.id == kept.provider_item_id), None)

    async def _find_work(
        self, tx: Connection, tenant_id: UUID, account_id: UUID, item: Item
    ) -> Work | RefundWork | None:
        """What an item is about, as far as it is kept here."""
        reference = _reference(item.reference)
        if item.about is About.REFUND:
            refund = await find_told_refund(tx, tenant_id, account_id, reference, item.object_id)
            if refund is None:
                return None
            operation = await lock_operation(tx, tenant_id, refund.refund_id)
            return await self._refunds.load(tx, tenant_id, operation)
        if item.about is not About.PAYMENT:
            return None
        attempt = await find_attempt(tx, tenant_id, account_id, reference, item.provider_payment_id)
        if attempt is None:
            return None
        operation = await lock_operation(tx, tenant_id, attempt.attempt_id)
        return await self._recorder.load(tx, tenant_id, operation)

    async def _put_off(
        self,
        tenant_id: UUID,
        kept: Kept,
        state: NotificationState,
        error: Exception,
        now: datetime,
    ) -> None:
        if state is NotificationState.DEAD:
            log.error("notification_dead", notification_id=str(kept.notification_id))
        async with self._database.transaction(tenant_id) as tx:
            await store.save_state(
                tx,
                tenant_id,
                kept.notification_id,
                state,
                error=f"{type(error).__name__}: {scrub(str(error))}"[:500],
                next_try_time=now + retry_after(kept.tries),
            )

    async def _provider_of(self, tenant_id: UUID, kept: Kept) -> str:
        async with self._database.transaction(tenant_id) as tx:
            account = await find_provider_account(tx, tenant_id, kept.provider_account_id)
        return account.provider if account else ""


def _would_change(work: Work | RefundWork, outcome: Outcome) -> bool:
    """Whether what is told is news."""
    if isinstance(work, RefundWork):
        present = work.now or work.refund.update_time
        return apply_to_refund(work.refund, outcome, present).changed
    return step(work.attempt.state, finding_of(work.attempt, outcome)) is not None


def _reference(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: scrub(text) for name, text in headers.items() if name in _HEADERS_KEPT}
