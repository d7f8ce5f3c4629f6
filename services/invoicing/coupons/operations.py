"""Making coupons, and giving them to customers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from invoicing.coupons import store
from invoicing.coupons.domain import Coupon, HeldCoupon, check_redeemable
from invoicing.customers.domain import AlreadyExists
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
