"""SubscriptionService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.wire import find_time, parse_uuid, render_amount
from invoicing.customers.wire import parse_customer_id
from invoicing.operations import once
from invoicing.subscriptions import operations, store
from invoicing.subscriptions.wire import parse_wish, render_subscription
from tollgate.invoicing.v1 import subscription_pb2 as pb


class SubscriptionServicer:
    """Subscribe, cancel, list; and what recurs of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, call: Call
    ) -> pb.CreateSubscriptionResponse:
        wish = parse_wish(request)

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

    async def CancelSubscription(
        self, request: pb.CancelSubscriptionRequest, call: Call
    ) -> pb.CancelSubscriptionResponse:
        subscription_id = parse_uuid(request.subscription_id, "subscription_id")

        async def change(tx: Connection) -> pb.CancelSubscriptionResponse:
            ended = await operations.cancel_subscription(
                tx, call.tenant_id, subscription_id, call.now, immediately=request.immediately
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
