"""The sandbox in the words of others: their paths, errors and signatures over the same books."""

from gateway.sandbox.dialect import Dialect
from gateway.sandbox.providers.adyen import AdyenDialect
from gateway.sandbox.providers.chargebee import ChargebeeDialect
from gateway.sandbox.providers.gocardless import GoCardlessDialect
from gateway.sandbox.providers.paddle import PaddleDialect
from gateway.sandbox.providers.razorpay import RazorpayDialect
from gateway.sandbox.providers.stripe import StripeDialect

DIALECTS: dict[str, type[Dialect]] = {
    each.name: each
    for each in (
        AdyenDialect,
        ChargebeeDialect,
        GoCardlessDialect,
        PaddleDialect,
        RazorpayDialect,
        StripeDialect,
    )
}
