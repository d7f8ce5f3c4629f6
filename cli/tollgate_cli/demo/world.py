"""Who is in the demo and what they pay: one seller, three plans, a hundred customers.

Everything here is a constant or follows from one, so that two runs bill the same to the last atom.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum

from tollgate.invoicing.v1 import catalog_pb2 as catalog
from tollgate.metering.v1 import meter_pb2 as meters
from tollgate.type.v1 import price_pb2 as prices

MONTH_START = datetime(2025, 11, 1, tzinfo=UTC)
DAYS = 30
MONTH_END = MONTH_START + timedelta(days=DAYS)

EVENT_NAME = "llm_request"
MODELS = ("small", "large")
SEATS = 5
SEAT_PRICE = Decimal(20)
TEAM_CUSTOMERS = 20  # in arrears: 20 customers × 5 seats × $20 = $2,000 a month
PREPAID_CUSTOMERS = 60
TOKEN_CUSTOMERS = 20
DECLINED = "customer-008"  # its card has no funds left when the month closes
CUSTOMERS = TEAM_CUSTOMERS + PREPAID_CUSTOMERS + TOKEN_CUSTOMERS


class Kind(Enum):
    """How a customer pays."""

    TEAM = "team"  # seats in advance, usage in arrears
    PREPAID = "prepaid"  # a wallet in USD
    TOKENS = "tokens"  # a wallet in the native asset `token`


class Funds(Enum):
    """What a wallet starts with, against what its customer is expected to use."""

    AMPLE = "ample"  # lasts the month
    DRY = "dry"  # runs out some way in
    RECHARGED = "recharged"  # tops itself up by a stored payment method


@dataclass(frozen=True, slots=True)
class Person:
    """One customer of the demo."""

    customer_id: str
    name: str
    country: str
    kind: Kind
    weight: int  # its share of all traffic, in parts of the sum of weights
    funds: Funds = Funds.AMPLE
    purses: int = 1
    payment_method: str = ""  # empty: no stored method


def people() -> list[Person]:
    """All hundred customers, in the order of their ids."""
    countries = ("US", "DE", "GB", "FR", "JP")
    found = []
    for index in range(CUSTOMERS):
        country = countries[index % len(countries)]
        customer_id = f"customer-{index + 1:03}"
        name = f"{_NAMES[index % len(_NAMES)]} {_FORMS[country]}"
        weight = 1 + (index * 7) % 12
        if index < TEAM_CUSTOMERS:
            found.append(
                Person(customer_id, name, country, Kind.TEAM, weight, payment_method="pm_ok")
            )
        elif index < TEAM_CUSTOMERS + PREPAID_CUSTOMERS:
            found.append(_prepaid(index - TEAM_CUSTOMERS, customer_id, name, country, weight))
        else:
            funds = Funds.DRY if index % 10 == 0 else Funds.AMPLE
            found.append(Person(customer_id, name, country, Kind.TOKENS, weight, funds))
    return found


def _prepaid(position: int, customer_id: str, name: str, country: str, weight: int) -> Person:
    if position % 6 == 0:
        # Heavy enough that a threshold of a few days' use is a round sum of dollars.
        return Person(
            customer_id, name, country, Kind.PREPAID, 20, Funds.RECHARGED, payment_method="pm_ok"
        )
    funds = Funds.DRY if position % 5 == 1 else Funds.AMPLE
    return Person(customer_id, name, country, Kind.PREPAID, weight, funds, 1 + (position % 4 == 3))


def meter_list() -> list[meters.Meter]:
    """Input and output tokens by model, and requests."""
    token_meters = [
        meters.Meter(
            code=code,
            name=code.replace("_", " ").capitalize(),
            event_name=EVENT_NAME,
            aggregation=meters.AGGREGATION_SUM,
            value_property=code,
            dimensions=["model"],
            unit="token",
        )
        for code in ("input_tokens", "output_tokens")
    ]
    requests = meters.Meter(
        code="requests",
        name="Requests",
        event_name=EVENT_NAME,
        aggregation=meters.AGGREGATION_COUNT,
        dimensions=["model"],
        unit="request",
    )
    return [*token_meters, requests]


def plan_list() -> list[catalog.Plan]:
    """The plan with seats, the prepaid plan, and the one priced in tokens."""
    month = catalog.BillingInterval(count=1, unit=catalog.INTERVAL_UNIT_MONTH)
    seat = catalog.PlanPrice(
        code="seat",
        description="Team seat",
        kind=catalog.PRICE_KIND_SEAT,
        pricing=prices.Price(
            asset="USD",
            seat=prices.SeatModel(unit=prices.UnitModel(unit_price=str(SEAT_PRICE))),
        ),
        timing=catalog.BILLING_TIMING_ADVANCE,
    )
    return [
        catalog.Plan(
            code="team",
            name="Team",
            interval=month,
            features=["llm"],
            prices=[seat, *_token_prices(catalog.SETTLEMENT_INVOICE)],
        ),
        catalog.Plan(
            code="prepaid",
            name="Prepaid",
            interval=month,
            features=["llm"],
            prices=_token_prices(catalog.SETTLEMENT_WALLET),
        ),
        catalog.Plan(
            code="tokens",
            name="Token pack",
            interval=month,
            features=["llm"],
            prices=[
                _usage_price("input_tokens", model, "Input tokens", _flat_rate(rate))
                for model, rate in (("small", "1"), ("large", "5"))
            ]
            + [
                _usage_price("output_tokens", model, "Output tokens", _flat_rate(rate))
                for model, rate in (("small", "4"), ("large", "15"))
            ],
        ),
    ]


# Dollars for a million tokens: the first five millions of a month, the next twenty, the rest.
_RATES = {
    ("input_tokens", "small"): ("0.50", "0.40", "0.30"),
    ("input_tokens", "large"): ("3.00", "2.50", "2.00"),
    ("output_tokens", "small"): ("1.50", "1.20", "1.00"),
    ("output_tokens", "large"): ("15.00", "12.50", "10.00"),
}


def _token_prices(settlement: catalog.Settlement.ValueType) -> list[catalog.PlanPrice]:
    found = []
    for (meter, model), (first, second, third) in _RATES.items():
        pricing = prices.Price(
            asset="USD",
            divide_by="1000000",
            graduated=prices.GraduatedModel(
                tiers=[
                    prices.Tier(up_to="5", unit_price=first),
                    prices.Tier(up_to="25", unit_price=second),
                    prices.Tier(unit_price=third),
                ]
            ),
        )
        title = meter.replace("_", " ").capitalize()
        found.append(_usage_price(meter, model, title, pricing, settlement))
    return found


def _flat_rate(unit_price: str) -> prices.Price:
    return prices.Price(asset="token", unit=prices.UnitModel(unit_price=unit_price))


def _usage_price(
    meter: str,
    model: str,
    title: str,
    pricing: prices.Price,
    settlement: catalog.Settlement.ValueType = catalog.SETTLEMENT_WALLET,
) -> catalog.PlanPrice:
    return catalog.PlanPrice(
        code=f"{meter}-{model}",
        description=f"{title} ({model} model)",
        kind=catalog.PRICE_KIND_USAGE,
        meter=meter,
        dimensions={"model": model},
        pricing=pricing,
        settlement=settlement,
    )


_NAMES = (
    "Aster Labs", "Birch Analytics", "Cobalt Search", "Dune Robotics", "Ember Health",
    "Fathom Legal", "Granite Maps", "Harbor Retail", "Iris Translation", "Juniper Games",
    "Kestrel Weather", "Lumen Schools", "Meridian Travel", "Nimbus Support", "Ochre Design",
    "Pine Logistics", "Quarry Data", "Rowan Insurance", "Saffron Foods", "Tidal Music",
)  # fmt: skip
_FORMS = {"US": "Inc.", "DE": "GmbH", "GB": "Ltd", "FR": "SAS", "JP": "K.K."}
