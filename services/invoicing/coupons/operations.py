"""Making coupons, and giving them to customers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from invoicing.coupons import store
from invoicing.coupons.domain import (
    Coupon,
    CouponNotRedeemable,
    HeldCoupon,
    Scope,
    check_redeemable,
)
from invoicing.customers.domain import AlreadyExists, Customer
from invoicing.customers.operations import lock_customer
from kernel.errors import NotFound


async def create_coupon(tx: Connection, tenant_id: UUID, coupon: Coupon) -> Coupon:
    """Raises AlreadyExists."""
    if not await store.insert_coupon(tx, tenant_id, coupon):
        raise AlreadyExists("coupon", coupon.code)
    return coupon


async def get_coupon(tx: Connection, tenant_id: UUID, code: str) -> Coupon:
    coupon = await store.find_coupon(tx, tenant_id, code)
    if coupon is None:
        raise NotFound("coupon", code)
    return coupon


async def archive_coupon(tx: Connection, tenant_id: UUID, code: str) -> Coupon:
    """Raises NotFound."""
    await store.archive(tx, tenant_id, code)
    return await get_coupon(tx, tenant_id, code)


async def attach_coupon(
    tx: Connection, tenant_id: UUID, customer_id: str, code: str, now: datetime
) -> HeldCoupon:
    """Give a coupon to a customer; having it already is no change.

    Raises NotFound, CouponNotRedeemable.
    """
    customer = await lock_customer(tx, tenant_id, customer_id)
    coupon = await get_coupon(tx, tenant_id, code)
    held = await _find_held(tx, tenant_id, customer_id, code)
    if held is not None:
        return held
    check_redeemable(coupon, customer.currency, now)
    await store.save_attachment(tx, tenant_id, customer_id, HeldCoupon(coupon, 0, 0, now))
    attached = await _find_held(tx, tenant_id, customer_id, code)
    assert attached is not None
    return attached


async def find_stated(
    tx: Connection, tenant_id: UUID, customer: Customer, codes: Sequence[str], now: datetime
) -> list[HeldCoupon]:
    """Coupons that somebody states for one document of a customer, as if it had them.

    Raises NotFound, CouponNotRedeemable.
    """
    if not codes:
        return []
    present = await store.list_held(tx, tenant_id, customer.customer_id)
    held = {one.coupon.code: one for one in present}
    found = []
    for code in codes:
        coupon = await get_coupon(tx, tenant_id, code)
        check_redeemable(coupon, customer.currency, now)
        if coupon.scope is not Scope.DOCUMENT:
            raise CouponNotRedeemable(code, "it is limited to plans or prices")
        one = held.get(code) or HeldCoupon(coupon, 0, 0, now)
        if not one.is_open:
            raise CouponNotRedeemable(code, "the customer used it up")
        found.append(one)
    return found


async def detach_coupon(tx: Connection, tenant_id: UUID, customer_id: str, code: str) -> None:
    """Take a coupon from a customer. Raises NotFound."""
    await lock_customer(tx, tenant_id, customer_id)
    if not await store.detach(tx, tenant_id, customer_id, code):
        raise NotFound("coupon of the customer", code)


async def _find_held(
    tx: Connection, tenant_id: UUID, customer_id: str, code: str
) -> HeldCoupon | None:
    found = await store.list_held(tx, tenant_id, customer_id)
    return next((held for held in found if held.coupon.code == code), None)
