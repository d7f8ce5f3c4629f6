"""EntitlementService."""

from __future__ import annotations

from decimal import Decimal

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.peers import Peers
from chassis.wire import find_uuid, parse_uuid, render_time
from invoicing.customers.wire import parse_customer_id
from invoicing.entitlements import operations, store
from invoicing.entitlements.domain.resolve import EffectiveLimit
from invoicing.entitlements.operations import CustomerEntitlements, LimitUse
from invoicing.entitlements.wire import (
    parse_feature,
    parse_grant,
    parse_override,
    render_entitlement,
    render_feature,
    render_grant,
    render_override,
)
from invoicing.operations import once
from invoicing.wire import parse_code
from kernel.errors import InvalidValue, NotFound
from kernel.money import format_decimal, parse_decimal
from tollgate.invoicing.v1 import entitlement_pb2 as pb

CUSTOMERS_MAX = 1_000


class EntitlementServicer:
    """Features, and what customers may do with them."""

    def __init__(self, database: Database, peers: Peers) -> None:
        self._database = database
        self._peers = peers

    async def SetFeature(self, request: pb.SetFeatureRequest, call: Call) -> pb.SetFeatureResponse:
        wanted = parse_feature(request.feature, call.now)

        async def change(tx: Connection) -> pb.SetFeatureResponse:
            feature = await operations.set_feature(tx, call.tenant_id, wanted)
            return pb.SetFeatureResponse(feature=render_feature(feature))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.SetFeatureResponse,
            change,
        )

    async def ListFeatures(
        self, request: pb.ListFeaturesRequest, call: Call
    ) -> pb.ListFeaturesResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = page.after[0] if page.after else ""
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_features(tx, call.tenant_id, after, page.size + 1)
        shown = found[: page.size]
        more = len(found) > page.size
        return pb.ListFeaturesResponse(
            features=[render_feature(feature) for feature in shown],
            next_page_token=next_token(shown[-1].code) if more else "",
        )

    async def GetEntitlements(
        self, request: pb.GetEntitlementsRequest, call: Call
    ) -> pb.GetEntitlementsResponse:
        if not 1 <= len(request.customer_ids) <= CUSTOMERS_MAX:
            raise InvalidValue("customer_ids", f"takes 1 to {CUSTOMERS_MAX} customers")
        customer_ids = [
            parse_customer_id(customer_id, f"customer_ids[{index}]")
            for index, customer_id in enumerate(request.customer_ids)
        ]
        async with self._database.transaction(call.tenant_id) as tx:
            found = await operations.get_entitlements(tx, call.tenant_id, customer_ids, call.now)
        return pb.GetEntitlementsResponse(customers=[_render_customer(one) for one in found])

    async def CheckEntitlement(
        self, request: pb.CheckEntitlementRequest, call: Call
    ) -> pb.CheckEntitlementResponse:
        customer_id = parse_customer_id(request.customer_id)
        code = parse_code(request.feature_code, "feature_code")
        wanted = parse_decimal(request.quantity or "1", "quantity")
        async with self._database.transaction(call.tenant_id) as tx:
            (held,) = await operations.get_entitlements(tx, call.tenant_id, [customer_id], call.now)
        if held.customer is None:
            raise NotFound("customer", customer_id)
        entitlement = held.of(code)
        uses = []
        if entitlement is not None and entitlement.limits:
            uses = await operations.read_uses(self._peers, call, customer_id, entitlement)
        reasons = operations.reasons_against(held, entitlement, uses, wanted)
        limits = entitlement.limits if entitlement is not None else ()
        return pb.CheckEntitlementResponse(
            allowed=not reasons,
            reasons=reasons,
            entitlement=None if entitlement is None else render_entitlement(entitlement),
            uses=[_render_use(limit, use) for limit, use in zip(limits, uses, strict=True)],
        )

    async def SetEntitlementOverride(
        self, request: pb.SetEntitlementOverrideRequest, call: Call
    ) -> pb.SetEntitlementOverrideResponse:
        override = parse_override(request.override, call.now)

        async def change(tx: Connection) -> pb.SetEntitlementOverrideResponse:
            made = await operations.set_override(tx, call.tenant_id, override)
            return pb.SetEntitlementOverrideResponse(override=render_override(made))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.SetEntitlementOverrideResponse,
            change,
        )

    async def ClearEntitlementOverride(
        self, request: pb.ClearEntitlementOverrideRequest, call: Call
    ) -> pb.ClearEntitlementOverrideResponse:
        customer_id = parse_customer_id(request.customer_id)
        subscription_id = find_uuid(request.subscription_id, "subscription_id")
        code = parse_code(request.feature_code, "feature_code")

        async def change(tx: Connection) -> pb.ClearEntitlementOverrideResponse:
            await operations.clear_override(tx, call.tenant_id, customer_id, subscription_id, code)
            return pb.ClearEntitlementOverrideResponse()

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.ClearEntitlementOverrideResponse,
            change,
        )

    async def ListEntitlementOverrides(
        self, request: pb.ListEntitlementOverridesRequest, call: Call
    ) -> pb.ListEntitlementOverridesResponse:
        customer_id = parse_customer_id(request.customer_id)
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        after = ("", store.NOBODY)
        if page.after:
            after = (page.after[0], parse_uuid(page.after[1], "page_token"))
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_overrides(
                tx, call.tenant_id, customer_id, after, page.size + 1
            )
        shown = found[: page.size]
        more = len(found) > page.size
        token = ""
        if more:
            last = shown[-1]
            token = next_token(last.feature_code, str(last.subscription_id or store.NOBODY))
        return pb.ListEntitlementOverridesResponse(
            overrides=[render_override(one) for one in shown], next_page_token=token
        )

    async def CreateEntitlementGrant(
        self, request: pb.CreateEntitlementGrantRequest, call: Call
    ) -> pb.CreateEntitlementGrantResponse:
        grant = parse_grant(request.grant, call.now)

        async def change(tx: Connection) -> pb.CreateEntitlementGrantResponse:
            made = await operations.create_grant(tx, call.tenant_id, grant)
            return pb.CreateEntitlementGrantResponse(grant=render_grant(made))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CreateEntitlementGrantResponse,
            change,
        )

    async def RevokeEntitlementGrant(
        self, request: pb.RevokeEntitlementGrantRequest, call: Call
    ) -> pb.RevokeEntitlementGrantResponse:
        grant_id = parse_uuid(request.grant_id, "grant_id")

        async def change(tx: Connection) -> pb.RevokeEntitlementGrantResponse:
            ended = await operations.revoke_grant(tx, call.tenant_id, grant_id, call.now)
            return pb.RevokeEntitlementGrantResponse(grant=render_grant(ended))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.RevokeEntitlementGrantResponse,
            change,
        )

    async def ListEntitlementGrants(
        self, request: pb.ListEntitlementGrantsRequest, call: Call
    ) -> pb.ListEntitlementGrantsResponse:
        customer_id = parse_customer_id(request.customer_id)
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        before = parse_uuid(page.after[0], "page_token") if page.after else None
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_grants(tx, call.tenant_id, customer_id, before, page.size + 1)
        shown = found[: page.size]
        more = len(found) > page.size
        return pb.ListEntitlementGrantsResponse(
            grants=[render_grant(one) for one in shown],
            next_page_token=next_token(str(shown[-1].grant_id)) if more else "",
        )


def _render_customer(held: CustomerEntitlements) -> pb.CustomerEntitlements:
    customer = held.customer
    message = pb.CustomerEntitlements(
        customer_id=held.customer_id,
        known=customer is not None,
        suspended=customer is not None and customer.suspended,
        version=0 if customer is None else customer.rate_card_version,
        entitlements=[render_entitlement(one) for one in held.entitlements],
    )
    if held.valid_until is not None:
        message.valid_until_time.CopyFrom(render_time(held.valid_until))
    return message


def _render_use(limit: EffectiveLimit, use: LimitUse) -> pb.LimitUse:
    message = pb.LimitUse()
    if use.window is not None:
        message.window_start_time.CopyFrom(render_time(use.window.start))
        message.reset_time.CopyFrom(render_time(use.window.end))
    if use.used is not None:
        message.used = format_decimal(use.used)
        message.remaining = format_decimal(max(limit.quantity - use.used, Decimal(0)))
    return message
