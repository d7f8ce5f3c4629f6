"""SQL of payments by hand, and of what customers have with us."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.payments.domain import Allocation, ReceivedPayment
from kernel.money import Amount, Asset


async def lock_balance(
    tx: Connection, tenant_id: UUID, customer_id: str, currency: Asset
) -> Amount:
    """What the customer's balance holds in a currency."""
    atoms = await tx.fetchval(
        "SELECT amount FROM customer_balance WHERE tenant_id = $1 AND customer_id = $2"
        " AND currency = $3 FOR UPDATE",
        tenant_id,
        customer_id,
        currency.code,
    )
    return Amount(currency, int(atoms or 0))


async def lock_balances(
    tx: Connection, tenant_id: UUID, whose: Sequence[tuple[str, Asset]]
) -> dict[tuple[str, Asset], Amount]:
    """What balances of customers hold in currencies; their customers are locked by the caller."""
    rows = await tx.fetch(
        "SELECT customer_id, currency, amount FROM customer_balance WHERE tenant_id = $1"
        " AND customer_id = ANY ($2) ORDER BY customer_id, currency FOR UPDATE",
        tenant_id,
        [customer_id for customer_id, _ in whose],
    )
    held = {(row["customer_id"], row["currency"]): int(row["amount"]) for row in rows}
    return {
        (customer_id, asset): Amount(asset, held.get((customer_id, asset.code), 0))
        for customer_id, asset in whose
    }


async def save_balance(tx: Connection, tenant_id: UUID, customer_id: str, balance: Amount) -> None:
    await tx.execute(
        "INSERT INTO customer_balance (tenant_id, customer_id, currency, amount)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, customer_id, currency)"
        " DO UPDATE SET amount = excluded.amount",
        tenant_id,
        customer_id,
        balance.asset.code,
        balance.atoms,
    )


async def add_to_balance(tx: Connection, tenant_id: UUID, customer_id: str, amount: Amount) -> None:
    """Keep an amount for the customer's next invoices."""
    if amount.atoms:
        balance = await lock_balance(tx, tenant_id, customer_id, amount.asset)
        await save_balance(tx, tenant_id, customer_id, balance + amount)


async def list_balances(tx: Connection, tenant_id: UUID, customer_id: str) -> dict[str, int]:
    """Minor units by currency."""
    rows = await tx.fetch(
        "SELECT currency, amount FROM customer_balance"
        " WHERE tenant_id = $1 AND customer_id = $2 ORDER BY currency",
        tenant_id,
        customer_id,
    )
    return {row["currency"]: int(row["amount"]) for row in rows}


async def list_owing(
    tx: Connection, tenant_id: UUID, customer_id: str, currency: str
) -> list[UUID]:
    """A customer's open invoices in a currency, in the order in which they fall due. Bought value
    is not among them: it is paid for itself or not at all."""
    rows = await tx.fetch(
        "SELECT invoice_id FROM invoice WHERE tenant_id = $1 AND customer_id = $2"
        " AND currency = $3 AND state = 'OPEN' AND kind <> 'TOP_UP'"
        " ORDER BY due_time, invoice_id",
        tenant_id,
        customer_id,
        currency,
    )
    return [row["invoice_id"] for row in rows]


async def insert_payment(tx: Connection, tenant_id: UUID, payment: ReceivedPayment) -> None:
    await tx.execute(
        "INSERT INTO received_payment (tenant_id, received_payment_id, customer_id, currency,"
        " scale, amount, balance_given, reference, receive_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tenant_id,
        payment.received_payment_id,
        payment.customer_id,
        payment.amount.asset.code,
        payment.amount.asset.scale,
        payment.amount.atoms,
        payment.balance_given.atoms,
        payment.reference,
        payment.receive_time,
    )
    await tx.executemany(
        "INSERT INTO payment_allocation (tenant_id, received_payment_id, invoice_id, position,"
        " amount) VALUES ($1, $2, $3, $4, $5)",
        [
            (tenant_id, payment.received_payment_id, one.invoice_id, position, one.amount.atoms)
            for position, one in enumerate(payment.allocations)
        ],
    )


async def list_payments(
    tx: Connection, tenant_id: UUID, customer_id: str, before: UUID | None, limit: int
) -> list[ReceivedPayment]:
    """Newest first; an empty customer_id means everybody's."""
    rows = await tx.fetch(
        "SELECT * FROM received_payment WHERE tenant_id = $1 AND ($2 = '' OR customer_id = $2)"
        " AND ($3::uuid IS NULL OR received_payment_id < $3)"
        " ORDER BY received_payment_id DESC LIMIT $4",
        tenant_id,
        customer_id,
        before,
        limit,
    )
    parts = await tx.fetch(
        "SELECT * FROM payment_allocation WHERE tenant_id = $1 AND received_payment_id = ANY ($2)"
        " ORDER BY received_payment_id, position",
        tenant_id,
        [row["received_payment_id"] for row in rows],
    )
    taken: dict[UUID, list[asyncpg.Record]] = {}
    for part in parts:
        taken.setdefault(part["received_payment_id"], []).append(part)
    return [_payment(row, taken.get(row["received_payment_id"], [])) for row in rows]


def _payment(row: asyncpg.Record, parts: Sequence[asyncpg.Record]) -> ReceivedPayment:
    money = Asset(row["currency"], row["scale"])
    return ReceivedPayment(
        received_payment_id=row["received_payment_id"],
        customer_id=row["customer_id"],
        amount=Amount(money, int(row["amount"])),
        reference=row["reference"],
        receive_time=row["receive_time"],
        allocations=tuple(
            Allocation(part["invoice_id"], Amount(money, int(part["amount"]))) for part in parts
        ),
        balance_given=Amount(money, int(row["balance_given"])),
    )
