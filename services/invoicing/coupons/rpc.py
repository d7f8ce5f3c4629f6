"""CouponService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from invoicing.coupons import store
from invoicing.coupons.operations import (
    archive_coupon,
    attach_coupon,
    create_coupon,
    detach_coupon,
)
from invoicing.coupons.wire import parse_coupon, render_coupon, render_held
from invoicing.customers.operations import get_customer
from invoicing.customers.wire import parse_customer_id
from invoicing.operations import once
from invoicing.wire import parse_code
from kernel.currency import currency
from tollgate.invoicing.v1 import coupon_pb2 as pb


class CouponServicer:
    """Coupons, and who has them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreateCoupon(
        self, request: pb.CreateCouponRequest, call: Call
    ) -> pb.CreateCouponResponse:
        coupon = parse_coupon(request.coupon, call.now)

        async def change(tx: Connection) -> pb.CreateCouponResponse:
            created = await create_coupon(tx, call.tenant_id, coupon)
            return pb.CreateCouponResponse(coupon=render_coupon(created))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CreateCouponResponse,
            change,
        )

    async def ListCoupons(
        self, request: pb.ListCouponsRequest, call: Call
    ) -> pb.ListCouponsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = page.after[0] if page.after else ""
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_coupons(tx, call.tenant_id, after, page.size + 1)
        shown = found[: page.size]
        more = len(found) > page.size
        return pb.ListCouponsResponse(
            coupons=[render_coupon(coupon) for coupon in shown],
            next_page_token=next_token(shown[-1].code) if more else "",
        )

    async def ArchiveCoupon(
        self, request: pb.ArchiveCouponRequest, call: Call
    ) -> pb.ArchiveCouponResponse:
        code = parse_code(request.code, "code")

        async def change(tx: Connection) -> pb.ArchiveCouponResponse:
            coupon = await archive_coupon(tx, call.tenant_id, code)
            return pb.ArchiveCouponResponse(coupon=render_coupon(coupon))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.ArchiveCouponResponse,
            change,
        )

    async def AttachCoupon(
        self, request: pb.AttachCouponRequest, call: Call
    ) -> pb.AttachCouponResponse:
        customer_id = parse_customer_id(request.customer_id)
        code = parse_code(request.code, "code")

        async def change(tx: Connection) -> pb.AttachCouponResponse:
            held = await attach_coupon(tx, call.tenant_id, customer_id, code, call.now)
            customer = await get_customer(tx, call.tenant_id, customer_id)
            scale = currency(customer.currency).scale
            return pb.AttachCouponResponse(customer_coupon=render_held(held, customer_id, scale))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.AttachCouponResponse,
            change,
        )

    async def DetachCoupon(
        self, request: pb.DetachCouponRequest, call: Call
    ) -> pb.DetachCouponResponse:
        customer_id = parse_customer_id(request.customer_id)
        code = parse_code(request.code, "code")

        async def change(tx: Connection) -> pb.DetachCouponResponse:
            await detach_coupon(tx, call.tenant_id, customer_id, code)
            return pb.DetachCouponResponse()

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.DetachCouponResponse,
            change,
        )

    async def ListCustomerCoupons(
        self, request: pb.ListCustomerCouponsRequest, call: Call
    ) -> pb.ListCustomerCouponsResponse:
        customer_id = parse_customer_id(request.customer_id)
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = page.after[0] if page.after else ""
        async with self._database.transaction(call.tenant_id) as tx:
            customer = await get_customer(tx, call.tenant_id, customer_id)
            found = await store.list_held(
                tx, call.tenant_id, customer_id, after=after, limit=page.size + 1
            )
        shown = found[: page.size]
        scale = currency(customer.currency).scale
        more = len(found) > page.size
        return pb.ListCustomerCouponsResponse(
            customer_coupons=[render_held(held, customer_id, scale) for held in shown],
            next_page_token=next_token(shown[-1].coupon.code) if more else "",
        )
