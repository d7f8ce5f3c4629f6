"""Recharges as the wallet tells of them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from chassis.wire import parse_uuid
from invoicing.recharges.domain import Recharge
from kernel.currency import currency, is_currency
from kernel.money import Amount, format_decimal, parse_decimal, round_to_atoms
from tollgate.wallet.v1 import messages_pb2 as wallet_messages

COST_BASIS_DIGITS = 18  # the finest a rate may be


def parse_recharge(message: wallet_messages.RechargeDue) -> Recharge:
    """The price is rounded once, to the currency's minor unit: what can be charged."""
    exact_price = Fraction(parse_decimal(message.price.value, "price.value"))
    value = Fraction(parse_decimal(message.amount.value, "amount.value"))
    price = None
    if is_currency(message.price.asset):
        money = currency(message.price.asset)
        price = Amount(money, round_to_atoms(exact_price, money.scale))
    basis = Decimal(0)
    if value:
        basis = Decimal(round_to_atoms(exact_price / value, COST_BASIS_DIGITS))
    return Recharge(
        recharge_id=parse_uuid(message.recharge_id, "recharge_id"),
        wallet_id=parse_uuid(message.wallet_id, "wallet_id"),
        customer_id=message.customer_id,
        asset=message.amount.asset,
        value=message.amount.value,
        price=price,
        exact_price=message.price.value,
        cost_basis=format_decimal(basis.scaleb(-COST_BASIS_DIGITS)),
        payment_method_id=message.payment_method_id,
    )
