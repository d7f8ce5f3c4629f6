"""The service's own ledger on a real Postgres against the same small model, under a test clock."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.support.databases import FreshDatabase
from tests.wallet.living import batches, live
from tests.wallet.worlds import Shape, shapes


def test_the_ledger_on_postgres_answers_as_the_model_does(wallet_database: FreshDatabase) -> None:
    with asyncio.Runner() as runner:
        database = wallet_database.open("wallet")
        runner.run(database.open())

        @settings(
            max_examples=60,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(shape=shapes, chosen=batches)
        def answers_the_same(shape: list[Shape], chosen: list[Any]) -> None:
            runner.run(live(database, shape, chosen))

        try:
            answers_the_same()
        finally:
            runner.run(database.close())
