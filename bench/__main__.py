"""`python -m bench [--only NAME]`: starts the suite, measures, prints one JSON list of records."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial

import uvloop

from bench import (
    echo,
    invoicing,
    ledger,
    metering,
    payments,
    postgres,
    rating,
    usage,
    wallet,
    world,
)
from bench.records import Records
from tollgate_cli.supervisor import Suite, running_suite
from tollgate_sdk import Tollgate

Measure = Callable[[Records, Tollgate], Awaitable[None]]
SuiteMeasure = Callable[[Records, Tollgate, Suite], Awaitable[None]]

# By the name that ONLY takes; each prints the records that begin with it.
MEASURES: dict[str, Measure] = {
    "wallet.debit.hot": wallet.measure_hot,
    "wallet.debit.uniform": wallet.measure_uniform,
    "wallet.hold.pairs": wallet.measure_holds,
}
# What needs nothing to run beside it.
ALONE: dict[str, Callable[[Records], None]] = {
    "rating": rating.measure,
    "invoicing.pdf_ms": invoicing.measure_pdf,
}
# The same with the suite at hand.
SUITE_MEASURES: dict[str, SuiteMeasure] = {
    "metering.ingest.charged": partial(metering.measure_ingest, plan="charged"),
    "metering.ingest.uncharged": partial(metering.measure_ingest, plan="uncharged"),
    "metering.authorize.unary": metering.measure_authorize,
    "metering.query.customer_month_ms": usage.measure_query,
    "wallet.hold.unary": ledger.measure_unary_holds,
    "wallet.debit.grants": ledger.measure_many_grants,
    "wallet.recharge.message": ledger.measure_recharge,
    "invoicing.run": invoicing.measure_run,
}
# They take minutes: measured only where they are asked for.
LONG_MEASURES: dict[str, SuiteMeasure] = {
    "wallet.debit.journal": ledger.measure_journal,
    "gateway.storm": payments.measure_storm,
}
REFERENCES = ("echo.unary", "pg.single_row_commit")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--only",
        choices=[*REFERENCES, *ALONE, *MEASURES, *SUITE_MEASURES, *LONG_MEASURES],
        help="measure this one alone",
    )
    asked = parser.parse_args()
    records = uvloop.run(_run(asked.only))
    print(json.dumps(records.json(), indent=2))


async def _run(only: str | None) -> Records:
    """Measure the references, then what was asked for, each on a tenant of its own."""
    records = Records()
    for name, alone in ALONE.items():
        if only in (None, name):
            _tell(name)
            alone(records)
    if only in ALONE:
        return records
    if only != "pg.single_row_commit":
        _tell("echo.unary")
        await echo.measure(records)
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as folder:
        async with running_suite(folder) as suite:
            _tell("pg.single_row_commit")
            await postgres.measure(records, suite.database_url)
            for name, measure in MEASURES.items():
                if only in (None, name):
                    _tell(name)
                    await _measure(suite, name, measure, records)
            for name, near in {**SUITE_MEASURES, **LONG_MEASURES}.items():
                if name == only or (only is None and name in SUITE_MEASURES):
                    _tell(name)
                    await _measure(suite, name, partial(_near, near, suite), records)
    return records


async def _near(measure: SuiteMeasure, suite: Suite, records: Records, client: Tollgate) -> None:
    await measure(records, client, suite)


async def _measure(suite: Suite, name: str, measure: Measure, records: Records) -> None:
    key = await suite.seed_tenant(name)
    async with Tollgate(suite.endpoints, key) as client:
        await world.open_catalog(client)
        await measure(records, client)


def _tell(name: str) -> None:
    print(f"measuring {name} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
