"""`python -m proof.checks NAME`: one check in a process of its own; it ends with 1 where it fails.

Mutants are tried by these: the process runs on mutated code, or on a database whose functions are
mutated. `TOLLGATE_PROOF` says on which database and Redis, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proof import stories
from proof.core import PROPERTIES, try_property
from proof.examples import profile
from proof.model import try_core, try_live
from tests.support.databases import FreshDatabase

STAGE = "TOLLGATE_PROOF"
SURVIVED, KILLED, BROKEN = 0, 1, 2
CORE_EXAMPLES, MODEL_EXAMPLES, LIVE_EXAMPLES = 300, 100, 60
MODEL_STEPS = 40


@dataclass(frozen=True)
class Given:
    """What a check stands on."""

    seed: int
    database: FreshDatabase | None
    redis_url: str
    folder: Path


def check_core(given: Given) -> None:
    """Layer 1 in small."""
    for number, each in enumerate(PROPERTIES):
        how = profile(max(1, int(CORE_EXAMPLES * each.worth)), shrink=False)
        try_property(each, given.seed + number, how)


def check_model(given: Given) -> None:
    """Layer 2 in small, in memory."""
    try_core(given.seed, MODEL_EXAMPLES, shrink=False, steps=MODEL_STEPS)


def check_live(given: Given) -> None:
    """Layer 2 in small, on Postgres."""
    assert given.database is not None
    try_live(given.database, given.seed, LIVE_EXAMPLES, shrink=False)


def _story(story: stories.Story) -> Callable[[Given], None]:
    def tell(given: Given) -> None:
        assert given.database is not None
        asyncio.run(stories.play(story, given.database, given.redis_url, given.folder))

    return tell


# By name, with the layer that each is a small form of.
CHECKS: Mapping[str, tuple[str, Callable[[Given], None]]] = {
    "core": ("core", check_core),
    "model": ("model", check_model),
    "live": ("model", check_live),
    "races": ("races", _story(stories.races)),
    "lost commit": ("faults", _story(stories.a_lost_commit_is_not_acknowledged)),
    "power cut": ("faults", _story(stories.what_is_acknowledged_survives_a_power_cut)),
    "repeat waits": ("faults", _story(stories.a_repeat_writes_a_record_of_its_own)),
    "clock": ("races", _story(stories.a_hold_that_ends_while_its_capture_waits_is_over)),
    "expiry": ("model", _story(stories.what_a_hold_pinned_of_an_expired_grant_does_not_return)),
    "schema": ("verifier", _story(stories.the_schema_refuses_what_the_core_never_asks)),
    "verifier": ("verifier", _story(stories.the_verifier_finds_what_was_changed)),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m proof.checks", description=__doc__)
    parser.add_argument("name", choices=CHECKS)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    stage = json.loads(os.environ[STAGE])
    database = FreshDatabase(stage["dsn"], stage["passwords"]) if stage["dsn"] else None
    given = Given(asked.seed, database, stage["redis"], Path(stage["folder"]))
    try:
        CHECKS[asked.name][1](given)
    except (ImportError, SyntaxError):
        traceback.print_exc()
        sys.exit(BROKEN)
    except BaseException as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        print(words[:300], flush=True)
        os._exit(KILLED)  # whatever still runs in a mutant is not waited for
    os._exit(SURVIVED)


if __name__ == "__main__":
    main()
