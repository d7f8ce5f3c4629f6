"""A small storm over the whole suite: faults at the provider, kills of the gateway, all books."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from bench import world
from bench.payments import check, rage
from tollgate_cli.supervisor import running_suite
from tollgate_sdk import Tollgate

PAYMENTS = 150
KILLS = 2


async def test_every_intent_ends_charged_exactly_once_through_kills() -> None:
    with tempfile.TemporaryDirectory(prefix="tollgate-storm-") as folder:
        async with running_suite(Path(folder)) as suite:
            async with Tollgate(suite.endpoints, await suite.seed_tenant("storm")) as client:
                await world.open_asset(client)
                storm = await rage(client, suite, PAYMENTS, KILLS, random.Random(11))
    check(storm, PAYMENTS)
    assert storm.kills > 0
    assert storm.ended["SUCCEEDED"] > PAYMENTS / 2
