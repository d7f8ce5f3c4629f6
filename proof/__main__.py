"""`python -m proof`: run the layers, print seeds, figures and claims; non-zero where one fails."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

# Before grpc is imported: servers are started as children, and none of them speaks gRPC for us.
os.environ |= {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0"}

import uvloop

from proof.claims import Layer, Options, run_layer, say
from proof.stage import open_stage

# In the order in which they run; each is `run` of the module of that name.
LAYERS = ("core", "model", "races", "faults", "events", "crashes", "mutants", "verifier")
SEED_BITS = 32


def main() -> None:
    """Parse, run, and leave with 1 where a claim fails."""
    parser = argparse.ArgumentParser(prog="python -m proof", description=__doc__)
    parser.add_argument("--layer", action="append", choices=LAYERS, help="only this one; repeat")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run that was printed")
    parser.add_argument("--long", action="store_true", help="the long form")
    parser.add_argument("--operations", type=int, default=0, help="of the faults layer, at least")
    parser.add_argument("--faults", type=int, default=0, help="of the faults layer, at least")
    parser.add_argument("--minutes", type=float, default=0.0, help="at most, of the faults layer")
    parser.add_argument("--only", default="", help="one case of a layer, by name")
    asked = parser.parse_args()
    seed = secrets.randbits(SEED_BITS) if asked.seed is None else asked.seed
    options = Options(seed, asked.long, asked.operations, asked.faults, asked.minutes, asked.only)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        layers = runner.run(_run(asked.layer or LAYERS, options))
    sys.exit(0 if all(layer.holds for layer in layers) else 1)


async def _run(names: tuple[str, ...] | list[str], options: Options) -> list[Layer]:
    task = asyncio.current_task()
    assert task is not None
    # Told to stop, it ends what it started before it ends.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    started = time.monotonic()
    layers = []
    with tempfile.TemporaryDirectory(prefix="proof-", ignore_cleanup_errors=True) as folder:
        async with open_stage(Path(folder)) as stage:
            for name in names:
                run = importlib.import_module(f"proof.{name}").run
                layers.append(await run_layer(name, run, options, stage))
    _sum_up(layers, options, time.monotonic() - started)
    return layers


def _sum_up(layers: list[Layer], options: Options, seconds: float) -> None:
    say(f"== in all ({seconds:.0f} s, seed {options.seed})")
    for layer in layers:
        for sentence, wrong in layer.claims:
            say(f"{'FAILS' if wrong else 'holds'}  {layer.name}: {sentence}")


if __name__ == "__main__":
    main()
