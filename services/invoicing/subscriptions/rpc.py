"""SubscriptionService."""

from __future__ import annotations

from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.peers import Peers
from chassis.requests import is_recorded
from chassis.wire import find_time, parse_member, parse_uuid, render_amount, render_time
from invoicing.customers.wire import parse_customer_id
from invoicing.invoices.operations import UsageReader
from invoicing.invoices.wire import render_draft
from invoicing.operations import once
from invoicing.previews.operations import Preview, check_payment_method, preview_change
from invoicing.runs.operations import start_run
from invoicing.subscriptions import operations, store
from invoicing.subscriptions.domain.options import Options, PreviewChanged, Proration
from invoicing.subscriptions.wire import (
    WHENS,
    parse_cancel_when,
    parse_ending,
    parse_options,
    parse_pausing,
    parse_target,
    parse_wish,
    render_subscription,
)
from tollgate.invoicing.v1 import subscription_pb2 as pb

REVISION_MAX = 2**31 - 1


class SubscriptionServicer:
    """Subscribe, change, pause, cancel, list; and what recurs of it."""

    def __init__(self, database: Database, peers: Peers, reader: UsageReader) -> None:
        self._database = database
        self._peers = peers
        self._reader = reader

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, call: Call
    ) -> pb.CreateSubscriptionResponse:
        wish = parse_wish(request)
        await self._check_trial(wish, request.request_id, call)

        async def change(tx: Connection) -> pb.CreateSubscriptionResponse:
            created = await operations.create_subscription(tx, call.tenant_id, wish, call.now)
            return pb.CreateSubscriptionResponse(
                subscription=render_subscription(created, call.now)
            )

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CreateSubscriptionResponse,
            change,
        )

    async def _check_trial(self, wish: operations.Wish, request_id: str, call: Call) -> None:
        """Raises TrialRefused where the trial needs a payment method and there is none."""
        async with self._database.transaction(call.tenant_id) as tx:
            if await is_recorded(tx, call.tenant_id, request_id):
                return
            trial = await operations.find_trial(tx, call.tenant_id, wish)
        if trial is not None and trial.requires_payment_method:
            await check_payment_method(self._peers, call, wish.customer_id)

    async def GetSubscription(
        self, request: pb.GetSubscriptionRequest, call: Call
    ) -> pb.GetSubscriptionResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")
        async with self._database.transaction(call.tenant_id) as tx:
            found = await operations.get_subscription(tx, call.tenant_id, subscription_id)
        return pb.GetSubscriptionResponse(subscription=render_subscription(found, call.now))

    async def PreviewChange(
        self, request: pb.PreviewChangeRequest, call: Call
    ) -> pb.PreviewChangeResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")
        target, options = parse_target(request.target), parse_options(request.options)
        shown = await self._preview(subscription_id, target, options, call)
        return pb.PreviewChangeResponse(
            subscription=render_subscription(shown.subscription, call.now),
            due_time=render_time(shown.due_time),
            invoice=render_draft(shown.draft),
            invoice_without=render_draft(shown.without),
            preview_digest=shown.digest,
        )

    async def _preview(
        self, subscription_id: UUID, target: operations.Target, options: Options, call: Call
    ) -> Preview:
        return await preview_change(
            self._database, self._reader, call.tenant_id, subscription_id, target, options, call
        )

    async def ChangeSubscription(
        self, request: pb.ChangeSubscriptionRequest, call: Call
    ) -> pb.ChangeSubscriptionResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")
        target, options = parse_target(request.target), parse_options(request.options)
        shown = None
        if request.preview_digest and not await self._is_repeat(request, call):
            shown = await self._preview(subscription_id, target, options, call)
            if shown.digest != request.preview_digest:
                raise PreviewChanged(request.preview_digest, shown.digest)

        async def change(tx: Connection) -> pb.ChangeSubscriptionResponse:
            changed, at = await operations.change_subscription(
                tx, call.tenant_id, subscription_id, target, options, call.now
            )
            if shown is not None and changed.revision != shown.subscription.revision:
                raise PreviewChanged(request.preview_digest, "the subscription changed meanwhile")
            run_id = ""
            if options.proration is Proration.INVOICE_NOW and at <= call.now:
                run = await start_run(
                    tx, call.tenant_id, call.now, call.now, customer_id=changed.customer_id
                )
                run_id = str(run.run_id)
            return pb.ChangeSubscriptionResponse(
                subscription=render_subscription(changed, call.now), run_id=run_id
            )

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.ChangeSubscriptionResponse,
            change,
        )

    async def _is_repeat(self, request: pb.ChangeSubscriptionRequest, call: Call) -> bool:
        """Whether the change was made already: then its preview is of no use any more."""
        async with self._database.transaction(call.tenant_id) as tx:
            return await is_recorded(tx, call.tenant_id, request.request_id)

    async def CancelSubscription(
        self, request: pb.CancelSubscriptionRequest, call: Call
    ) -> pb.CancelSubscriptionResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")
        when, ending = parse_cancel_when(request), parse_ending(request)
        at = find_time(request, "at_time")

        async def change(tx: Connection) -> pb.CancelSubscriptionResponse:
            ended = await operations.cancel_subscription(
                tx, call.tenant_id, subscription_id, when, at, ending, call.now
            )
            return pb.CancelSubscriptionResponse(subscription=render_subscription(ended, call.now))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CancelSubscriptionResponse,
            change,
        )

    async def ReactivateSubscription(
        self, request: pb.ReactivateSubscriptionRequest, call: Call
    ) -> pb.ReactivateSubscriptionResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")

        async def change(tx: Connection) -> pb.ReactivateSubscriptionResponse:
            active = await operations.reactivate_subscription(
                tx, call.tenant_id, subscription_id, call.now
            )
            return pb.ReactivateSubscriptionResponse(
                subscription=render_subscription(active, call.now)
            )

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.ReactivateSubscriptionResponse,
            change,
        )

    async def PauseSubscription(
        self, request: pb.PauseSubscriptionRequest, call: Call
    ) -> pb.PauseSubscriptionResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")
        options = Options(
            when=parse_member(request.when, WHENS, "when"), at=find_time(request, "at_time")
        )
        pausing, until = parse_pausing(request), find_time(request, "resume_time")

        async def change(tx: Connection) -> pb.PauseSubscriptionResponse:
            paused = await operations.pause_subscription(
                tx, call.tenant_id, subscription_id, options, until, pausing, call.now
            )
            return pb.PauseSubscriptionResponse(subscription=render_subscription(paused, call.now))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.PauseSubscriptionResponse,
            change,
        )

    async def ResumeSubscription(
        self, request: pb.ResumeSubscriptionRequest, call: Call
    ) -> pb.ResumeSubscriptionResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")
        at = find_time(request, "at_time")

        async def change(tx: Connection) -> pb.ResumeSubscriptionResponse:
            resumed = await operations.resume_subscription(
                tx, call.tenant_id, subscription_id, at, call.now
            )
            return pb.ResumeSubscriptionResponse(
                subscription=render_subscription(resumed, call.now)
            )

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.ResumeSubscriptionResponse,
            change,
        )

    async def ListSubscriptionChanges(
        self, request: pb.ListSubscriptionChangesRequest, call: Call
    ) -> pb.ListSubscriptionChangesResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        before = int(page.after[0]) if page.after else REVISION_MAX
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_changes(
                tx, call.tenant_id, subscription_id, before, page.size + 1
            )
        shown = found[: page.size]
        return pb.ListSubscriptionChangesResponse(
            changes=[
                pb.SubscriptionChange(
                    revision=row["revision"],
                    kind=row["kind"],
                    effective_time=render_time(row["effective_time"]),
                    create_time=render_time(row["create_time"]),
                    note=row["note"],
                )
                for row in shown
            ],
            next_page_token=(
                next_token(str(shown[-1]["revision"])) if len(found) > page.size else ""
            ),
        )

    async def ListSubscriptions(
        self, request: pb.ListSubscriptionsRequest, call: Call
    ) -> pb.ListSubscriptionsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        customer_id = parse_customer_id(request.customer_id) if request.customer_id else ""
        before = parse_uuid(page.after[0], "page_token") if page.after else None
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_subscriptions(
                tx, call.tenant_id, customer_id, before, page.size + 1
            )
        shown = found[: page.size]
        more = len(found) > page.size
        return pb.ListSubscriptionsResponse(
            subscriptions=[render_subscription(one, call.now) for one in shown],
            next_page_token=next_token(str(shown[-1].subscription_id)) if more else "",
        )

    async def GetRecurringRevenue(
        self, request: pb.GetRecurringRevenueRequest, call: Call
    ) -> pb.GetRecurringRevenueResponse:
        instant = find_time(request, "as_of") or call.now
        async with self._database.transaction(call.tenant_id) as tx:
            monthly = await operations.recurring_revenue(tx, call.tenant_id, instant)
        return pb.GetRecurringRevenueResponse(monthly=[render_amount(amount) for amount in monthly])
