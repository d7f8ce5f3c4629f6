"""Payments by hand as messages."""

from __future__ import annotations

from chassis.wire import parse_amount, parse_uuid, render_amount, render_time
from invoicing.payments.domain import Allocation, ReceivedPayment
from kernel.currency import currency
from kernel.errors import InvalidValue
from kernel.money import Amount, parse_atoms
from tollgate.invoicing.v1 import received_payment_pb2 as pb
from tollgate.type.v1 import amount_pb2

ALLOCATIONS_MAX = 200
REFERENCE_MAX = 200


def parse_money(message: amount_pb2.Amount, field: str) -> Amount:
    """An amount of money above zero, in whole minor units."""
    amount = parse_amount(message, lambda code: currency(code, f"{field}.asset").scale, field)
    if amount.atoms <= 0:
        raise InvalidValue(f"{field}.value", "must be above zero")
    return amount


def parse_allocations(request: pb.RecordPaymentRequest, amount: Amount) -> tuple[Allocation, ...]:
    """What a payment is said to be for; never more than it is."""
    if len(request.allocations) > ALLOCATIONS_MAX:
        raise InvalidValue("allocations", f"takes at most {ALLOCATIONS_MAX}")
    found: list[Allocation] = []
    for index, message in enumerate(request.allocations):
        field = f"allocations[{index}]"
        invoice_id = parse_uuid(message.invoice_id, f"{field}.invoice_id")
        atoms = parse_atoms(message.amount, amount.asset.scale, f"{field}.amount")
        if not atoms:
            raise InvalidValue(f"{field}.amount", "must be above zero")
        if any(one.invoice_id == invoice_id for one in found):
            raise InvalidValue(f"{field}.invoice_id", "is there twice")
        found.append(Allocation(invoice_id, Amount(amount.asset, atoms)))
    if sum(one.amount.atoms for one in found) > amount.atoms:
        raise InvalidValue("allocations", f"sum to more than {amount}")
    return tuple(found)


def render_payment(payment: ReceivedPayment) -> pb.ReceivedPayment:
    return pb.ReceivedPayment(
        received_payment_id=str(payment.received_payment_id),
        customer_id=payment.customer_id,
        amount=render_amount(payment.amount),
        reference=payment.reference,
        receive_time=render_time(payment.receive_time),
        allocations=[
            pb.PaymentAllocation(invoice_id=str(one.invoice_id), amount=one.amount.value)
            for one in payment.allocations
        ],
        balance_given=payment.balance_given.value,
    )
