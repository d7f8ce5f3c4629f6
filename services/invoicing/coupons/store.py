"""SQL of coupons, of who has them, and of what they took off documents."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.coupons.domain import Coupon, Duration, HeldCoupon
from invoicing.invoices.domain.discount import Discount
from invoicing.invoices.domain.document import Draft
from kernel.currency import currency
from kernel.money import Amount, Asset

_COLUMNS = (
    "c.code, c.name, c.rate, c.amount, c.currency, c.duration, c.documents, c.plan_codes,"
    " c.price_codes, c.redemptions_max, c.redemptions, c.end_time, c.keep_unused, c.archived,"
    " c.create_time"
)


async def insert_coupon(tx: Connection, tenant_id: UUID, coupon: Coupon) -> bool:
    """False where a coupon of that code exists."""
    amount = coupon.amount
    return bool(
        await tx.fetchval(
            "INSERT INTO coupon (tenant_id, code, name, rate, amount, currency, duration,"
            " documents, plan_codes, price_codes, redemptions_max, end_time, keep_unused,"
            " create_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
            " ON CONFLICT (tenant_id, code) DO NOTHING RETURNING true",
            tenant_id,
            coupon.code,
            coupon.name,
            coupon.rate,
            None if amount is None else amount.atoms,
            "" if amount is None else amount.asset.code,
            coupon.duration.value,
            coupon.documents,
            list(coupon.plan_codes),
            list(coupon.price_codes),
            coupon.redemptions_max,
            coupon.end_time,
            coupon.keep_unused,
            coupon.create_time,
        )
    )


async def find_coupon(tx: Connection, tenant_id: UUID, code: str) -> Coupon | None:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM coupon AS c WHERE c.tenant_id = $1 AND c.code = $2",
        tenant_id,
        code,
    )
    return None if row is None else _coupon(row)


async def list_coupons(tx: Connection, tenant_id: UUID, after: str, limit: int) -> list[Coupon]:
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM coupon AS c WHERE c.tenant_id = $1 AND c.code > $2"
        " ORDER BY c.code LIMIT $3",
        tenant_id,
        after,
        limit,
    )
    return [_coupon(row) for row in rows]


async def archive(tx: Connection, tenant_id: UUID, code: str) -> None:
    await tx.execute(
        "UPDATE coupon SET archived = true WHERE tenant_id = $1 AND code = $2", tenant_id, code
    )


async def save_attachment(
    tx: Connection, tenant_id: UUID, customer_id: str, held: HeldCoupon
) -> None:
    """Give a coupon to a customer; one that was taken away comes back as it was used."""
    await tx.execute(
        "INSERT INTO customer_coupon (tenant_id, customer_id, code, attach_time)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, customer_id, code)"
        " DO UPDATE SET attach_time = excluded.attach_time, detached = false"
        " WHERE customer_coupon.detached",
        tenant_id,
        customer_id,
        held.coupon.code,
        held.attach_time,
    )


async def detach(tx: Connection, tenant_id: UUID, customer_id: str, code: str) -> bool:
    """False where the customer does not have it."""
    return bool(
        await tx.fetchval(
            "UPDATE customer_coupon SET detached = true WHERE tenant_id = $1"
            " AND customer_id = $2 AND code = $3 AND NOT detached RETURNING true",
            tenant_id,
            customer_id,
            code,
        )
    )


async def list_held(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    *,
    after: str = "",
    limit: int | None = None,
    without_invoice: UUID | None = None,
) -> list[HeldCoupon]:
    """A customer's coupons by code; `without_invoice` as if that document did not have them."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS}, h.attach_time, count(r.invoice_id) AS used,"
        " coalesce(sum(r.amount), 0) AS given, EXISTS (SELECT FROM coupon_redemption AS o"
        "  WHERE o.tenant_id = h.tenant_id AND o.code = h.code AND o.invoice_id = $5"
        "  AND NOT o.returned) AS apart"
        " FROM customer_coupon AS h JOIN coupon AS c USING (tenant_id, code)"
        " LEFT JOIN coupon_redemption AS r ON r.tenant_id = h.tenant_id AND r.code = h.code"
        "  AND r.customer_id = h.customer_id AND NOT r.returned"
        "  AND r.invoice_id IS DISTINCT FROM $5"
        " WHERE h.tenant_id = $1 AND h.customer_id = $2 AND NOT h.detached AND h.code > $3"
        " GROUP BY h.tenant_id, h.customer_id, h.code, h.attach_time, c.tenant_id, c.code"
        " ORDER BY h.code LIMIT $4",
        tenant_id,
        customer_id,
        after,
        limit,
        without_invoice,
    )
    return [
        HeldCoupon(
            coupon=_coupon(row, fewer=int(row["apart"])),
            used=row["used"],
            given=int(row["given"]),
            attach_time=row["attach_time"],
        )
        for row in rows
    ]


async def lock_coupons(tx: Connection, tenant_id: UUID, codes: Sequence[str]) -> None:
    """Hold coupons of many documents, in one order for all who hold several."""
    if codes:
        await tx.execute(
            "SELECT FROM coupon WHERE tenant_id = $1 AND code = ANY ($2) ORDER BY code FOR UPDATE",
            tenant_id,
            list(codes),
        )


async def take_redemptions(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    invoice_id: UUID,
    discounts: Sequence[Discount],
) -> bool:
    """Count a document's coupons; False where one reached its limit. Rows are taken in the order
    of their codes, so that documents that have the same ones never wait for each other in turn."""
    for one in sorted(discounts, key=lambda discount: discount.code):
        counted = await tx.fetchval(
            "UPDATE coupon SET redemptions = redemptions + 1 WHERE tenant_id = $1 AND code = $2"
            " AND (redemptions_max IS NULL OR redemptions < redemptions_max) RETURNING true",
            tenant_id,
            one.code,
        )
        if not counted:
            return False
        await tx.execute(
            "INSERT INTO coupon_redemption (tenant_id, code, customer_id, invoice_id, amount)"
            " VALUES ($1, $2, $3, $4, $5)",
            tenant_id,
            one.code,
            customer_id,
            invoice_id,
            one.amount.atoms,
        )
    return True


async def return_redemptions(tx: Connection, tenant_id: UUID, invoice_id: UUID) -> None:
    """Give back what a void document redeemed (DIS-4)."""
    rows = await tx.fetch(
        "UPDATE coupon_redemption SET returned = true"
        " WHERE tenant_id = $1 AND invoice_id = $2 AND NOT returned RETURNING code",
        tenant_id,
        invoice_id,
    )
    for code in sorted(row["code"] for row in rows):
        await tx.execute(
            "UPDATE coupon SET redemptions = redemptions - 1 WHERE tenant_id = $1 AND code = $2",
            tenant_id,
            code,
        )


async def list_holders(tx: Connection, tenant_id: UUID, customer_ids: Sequence[str]) -> list[str]:
    """Those of customers that have coupons."""
    rows = await tx.fetch(
        "SELECT DISTINCT customer_id FROM customer_coupon WHERE tenant_id = $1"
        " AND customer_id = ANY ($2) AND NOT detached ORDER BY customer_id",
        tenant_id,
        list(customer_ids),
    )
    return [row["customer_id"] for row in rows]


async def insert_discounts(tx: Connection, tenant_id: UUID, invoice_id: UUID, draft: Draft) -> None:
    """What coupons took off the lines of a document."""
    await tx.executemany(
        "INSERT INTO invoice_discount (tenant_id, invoice_id, position, code, description, amount)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (tenant_id, invoice_id, position, one.code, one.description, one.amount.atoms)
            for position, one in enumerate(draft.discounts)
            if not one.on_lines
        ],
    )


async def list_discounts(
    tx: Connection, tenant_id: UUID, invoices: Sequence[asyncpg.Record]
) -> dict[UUID, list[Discount]]:
    """The discounts of documents by id; only those are asked for that have any."""
    money = {
        row["invoice_id"]: Asset(row["currency"], row["scale"])
        for row in invoices
        if row["discount_total"]
    }
    if not money:
        return {}
    found: dict[UUID, list[Discount]] = {}
    for row in await tx.fetch(
        "SELECT * FROM invoice_discount WHERE tenant_id = $1 AND invoice_id = ANY ($2)"
        " ORDER BY invoice_id, position",
        tenant_id,
        list(money),
    ):
        amount = Amount(money[row["invoice_id"]], int(row["amount"]))
        one = Discount(row["code"], row["description"], amount)
        found.setdefault(row["invoice_id"], []).append(one)
    return found


def _coupon(row: asyncpg.Record, *, fewer: int = 0) -> Coupon:
    amount = None
    if row["amount"] is not None:
        amount = Amount(currency(row["currency"]), int(row["amount"]))
    return Coupon(
        code=row["code"],
        name=row["name"],
        rate=row["rate"],
        amount=amount,
        duration=Duration(row["duration"]),
        documents=row["documents"],
        plan_codes=tuple(row["plan_codes"]),
        price_codes=tuple(row["price_codes"]),
        redemptions_max=row["redemptions_max"],
        redemptions=row["redemptions"] - fewer,
        end_time=row["end_time"],
        keep_unused=row["keep_unused"],
        archived=row["archived"],
        create_time=row["create_time"],
    )
