"""The model: state machines drive the ledger beside a small obvious wallet, and compare."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from proof.claims import Layer, Options
from proof.examples import check, profile, run_machine
from proof.stage import Stage
from tests.support.databases import FreshDatabase
from tests.wallet.living import batches, live
from tests.wallet.machine import LedgerMachine
from tests.wallet.worlds import Shape, shapes

CORE_EXAMPLES, CORE_EXAMPLES_LONG = 1_900, 20_000
CORE_STEPS = 14
PROCESSES = 2  # that share the examples in memory
LIVE_EXAMPLES, LIVE_EXAMPLES_LONG = 150, 2_000


async def run(layer: Layer, options: Options, stage: Stage) -> None:
    """The core in memory under many examples; the service's own ledger on Postgres under some."""
    in_memory = CORE_EXAMPLES_LONG if options.long else CORE_EXAMPLES
    on_postgres = LIVE_EXAMPLES_LONG if options.long else LIVE_EXAMPLES
    database = await stage.database("wallet")
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        core = [
            loop.run_in_executor(pool, try_core, options.seed + number, in_memory // PROCESSES)
            for number in range(PROCESSES)
        ]
        live_ = asyncio.to_thread(try_live, database, options.seed, on_postgres)
        *first, second = await asyncio.gather(*core, live_, return_exceptions=True)
    layer.claim(
        "the core answers every history as the model does, and its journal adds up",
        [_words(found) for found in first if found is not None],
    )
    layer.claim(
        "the ledger on Postgres answers every history as the model does",
        [] if second is None else [_words(second)],
    )
    layer.figure("examples in memory", in_memory)
    layer.figure("examples on Postgres", on_postgres)


def try_core(seed: int, examples: int, *, shrink: bool = True, steps: int = CORE_STEPS) -> None:
    """Histories of batches, repeats, waits and freezing, on the pure core."""
    run_machine(LedgerMachine, seed, profile(examples, shrink=shrink, steps=steps))


def try_live(database: FreshDatabase, seed: int, examples: int, *, shrink: bool = True) -> None:
    """Histories on the service's ledger, each of a tenant of its own."""
    with asyncio.Runner() as runner:
        opened = database.open("wallet")
        runner.run(opened.open())

        def lives(shape: list[Shape], chosen: list[Any]) -> None:
            runner.run(live(opened, shape, chosen))

        try:
            check(
                lives, seed, profile(examples, shrink=shrink), {"shape": shapes, "chosen": batches}
            )
        finally:
            runner.run(opened.close())


def _words(found: object) -> str:
    return f"{type(found).__name__}: {found}"[:600]
