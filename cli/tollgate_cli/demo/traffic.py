"""A month of LLM requests, the same ones for the same seed.

Prompt and answer lengths are log-normal with long tails and arrivals follow the working day, the
shapes that published inference traces show (Patel et al., "Splitwise", ISCA 2024).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from kernel.ids import new_id
from tollgate.metering.v1 import event_pb2 as events
from tollgate.metering.v1 import gate_pb2 as gate
from tollgate_cli.demo import world
from tollgate_cli.feed import Usage
from tollgate_cli.tenancy import render_time

SEED = 20_251_101
DUPLICATE_SHARE = 0.01  # sent again by producers that lost the answer
LATE_SHARE = 0.02  # reach Tollgate up to three days after they happened
GATED_SHARE = 0.05
LARGE_SHARE = 0.4
INPUT_TOKENS_MAX = 32_000
OUTPUT_TOKENS_MAX = 4_000


@dataclass(frozen=True, slots=True)
class Day:
    """What reaches Tollgate on one day, in order."""

    end: datetime
    usages: list[Usage]


def month(people: list[world.Person], count: int, seed: int = SEED) -> Iterator[Day]:
    """Spread `count` events, repeats included, over the days of the month."""
    chance = random.Random(seed)
    weights = [person.weight for person in people]
    quotas = _spread(count, [_daily_weight(day) for day in range(world.DAYS)])
    for day, quota in enumerate(quotas):
        start = world.MONTH_START + timedelta(days=day)
        repeats = round(quota * DUPLICATE_SHARE)
        originals = [
            _usage(chance, chance.choices(people, weights)[0], start, day)
            for _ in range(quota - repeats)
        ]
        originals.sort(key=lambda pair: pair[0])
        ordered = [usage for _, usage in originals]
        for _ in range(repeats):
            position = chance.randrange(len(ordered))
            if ordered[position].estimate is not None:
                position = next(i for i, u in enumerate(ordered) if u.estimate is None)
            ordered.insert(chance.randrange(position + 1, len(ordered) + 1), ordered[position])
        yield Day(start + timedelta(days=1), ordered)


def mean_cost(person: world.Person) -> Decimal:
    """What one request costs this customer on average, before volume discounts.

    In USD, or in tokens for customers who pay with those. It sizes wallets; it bills nobody.
    """
    small_in, small_out, large_in, large_out = (
        ("1", "4", "5", "15")
        if person.kind is world.Kind.TOKENS
        else ("0.0000005", "0.0000015", "0.000003", "0.000015")
    )
    share = Decimal(str(LARGE_SHARE))
    mean_in, mean_out = Decimal(2_200), Decimal(260)
    small = mean_in * Decimal(small_in) + mean_out * Decimal(small_out)
    large = mean_in * Decimal(large_in) + mean_out * Decimal(large_out)
    return small * (1 - share) + large * share


def _usage(
    chance: random.Random, person: world.Person, start: datetime, day: int
) -> tuple[datetime, Usage]:
    arrival = start + timedelta(seconds=_second_of_day(chance))
    happened = arrival
    if day > 3 and chance.random() < LATE_SHARE:
        happened = arrival - timedelta(seconds=chance.randrange(3_600, 3 * 86_400))
    input_tokens = _length(chance, 7.1, 1.1, INPUT_TOKENS_MAX)
    output_tokens = _length(chance, 4.9, 1.1, OUTPUT_TOKENS_MAX)
    model = "large" if chance.random() < LARGE_SHARE else "small"
    event = events.Event(
        event_id=str(new_id(arrival, chance.getrandbits(74))),
        name=world.EVENT_NAME,
        customer_id=person.customer_id,
        subject=f"key-{chance.randrange(3)}",
        event_time=render_time(happened),
        properties={
            "model": model,
            "input_tokens": str(input_tokens),
            "output_tokens": str(output_tokens),
        },
    )
    estimate = None
    if chance.random() < GATED_SHARE:
        # A caller knows its prompt and caps its answer: the estimate is never below the usage.
        cap = min(OUTPUT_TOKENS_MAX, 256 * math.ceil(output_tokens * 1.5 / 256))
        estimate = gate.UsageEstimate(
            name=world.EVENT_NAME,
            properties={
                "model": model,
                "input_tokens": str(input_tokens),
                "output_tokens": str(cap),
            },
        )
    return arrival, Usage(event, estimate)


def _length(chance: random.Random, mu: float, sigma: float, maximum: int) -> int:
    return max(1, min(maximum, round(chance.lognormvariate(mu, sigma))))


def _second_of_day(chance: random.Random) -> int:
    # Two thirds of the traffic in a broad hump around 14:00 UTC, the rest at any hour.
    if chance.random() < 0.66:
        return int(min(86_399, max(0, chance.gauss(14 * 3_600, 4 * 3_600))))
    return chance.randrange(86_400)


def _daily_weight(day: int) -> float:
    weekday = (world.MONTH_START + timedelta(days=day)).weekday()
    return 0.45 if weekday >= 5 else 1.0


def _spread(count: int, weights: list[float]) -> list[int]:
    total, given, reached = sum(weights), 0, 0.0
    quotas = []
    for weight in weights:
        reached += weight
        quota = round(count * reached / total) - given
        given += quota
        quotas.append(quota)
    return quotas
