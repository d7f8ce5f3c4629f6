"""Mutants: seeded bugs, each in a scratch copy or a scratch database; every one must be noticed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from proof.checks import BROKEN, CHECKS, KILLED, STAGE, SURVIVED
from proof.claims import Layer, Options, say, tell
from proof.mutants.catalog import MUTANTS, Mutant, Rewrite
from proof.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("services/wallet", "libs/chassis", "libs/kernel")
SIDE_BY_SIDE = 2
SECONDS_MAX = 600.0
NEED_NO_DATABASE = ("core", "model")


@dataclass(frozen=True)
class Trial:
    """How a check ended on a mutant, or on the code as it is."""

    name: str
    check: str
    code: int
    words: str

    @property
    def row(self) -> str:
        layer = CHECKS[self.check][0]
        end = {SURVIVED: "SURVIVED", KILLED: f"killed by {layer} ({self.check})"}
        return f"{self.name:62} {end.get(self.code, f'BROKEN: {self.words}')}"


class DoesNotFit(Exception):
    """The code has moved on and the mutant's words are not in it any more: mend the mutant."""


async def run(layer: Layer, options: Options, stage: Stage) -> None:
    """Every mutant under its check, and every check on the code as it is."""
    chosen = [m for m in MUTANTS if not options.only or m.name in options.only.split(",")]
    used = sorted({mutant.check for mutant in chosen})
    controls = [Mutant("the code as it is", check) for check in used]
    limit = asyncio.Semaphore(SIDE_BY_SIDE)

    async def attempt(mutant: Mutant) -> Trial:
        async with limit:
            trial = await _try(mutant, options.seed, stage)
            tell(f"{trial.row} {trial.words[:80]}")
            return trial

    trials = await asyncio.gather(*[attempt(mutant) for mutant in (*controls, *chosen)])
    healthy, mutants = trials[: len(controls)], trials[len(controls) :]
    for trial in mutants:
        say(f"   {trial.row}")
    layer.figure("mutants", len(mutants))
    layer.figure("killed", sum(trial.code == KILLED for trial in mutants))
    layer.claim(
        "every mutant is killed",
        [f"{t.name}: {t.words or 'survived'}" for t in mutants if t.code != KILLED],
    )
    layer.claim(
        "the code as it is survives every check that kills a mutant",
        [f"{t.check}: {t.words}" for t in healthy if t.code != SURVIVED],
    )


async def _try(mutant: Mutant, seed: int, stage: Stage) -> Trial:
    label = "".join(c if c.isalnum() else "-" for c in f"{mutant.name}-{mutant.check}")
    folder = stage.folder / "mutants" / label
    folder.mkdir(parents=True)
    try:
        path = [str(ROOT)]
        if mutant.patches:
            copy_code(mutant, folder / "code")
            path.insert(0, str(folder / "code"))
        needs = mutant.check not in NEED_NO_DATABASE
        given = {"dsn": "", "passwords": {}, "redis": stage.redis.url, "folder": str(stage.folder)}
        if needs:
            database = await stage.database("wallet")
            given |= {"dsn": database.superuser_dsn, "passwords": database.passwords}
            await _mutate(mutant, database.superuser_dsn)
        code, words = await _run_check(mutant.check, seed, path, given)
    except DoesNotFit as error:
        code, words = BROKEN, str(error)
    return Trial(mutant.name, mutant.check, code, words)


def copy_code(mutant: Mutant, folder: Path) -> None:
    """A copy of the packages a mutant may touch, with its bug in. Raises DoesNotFit."""
    for source in COPIED:
        shutil.copytree(
            ROOT / source,
            folder / Path(source).name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for patch in mutant.patches:
        relative = Path(patch.file)
        target = folder.joinpath(*relative.parts[1:])
        text = target.read_text()
        if text.count(patch.old) != 1:
            raise DoesNotFit(f"{patch.file} has {text.count(patch.old)} times: {patch.old!r}")
        target.write_text(text.replace(patch.old, patch.new))


async def _mutate(mutant: Mutant, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for rewrite in mutant.rewrites:
            await connection.execute(await rewritten(connection, rewrite))
        name = dsn.partition("?")[0].rpartition("/")[2]
        for statement in mutant.statements:
            await connection.execute(statement.format(database=name))
    finally:
        await connection.close()


async def rewritten(connection: asyncpg.Connection[asyncpg.Record], rewrite: Rewrite) -> str:
    """A function's definition with its bug in. Raises DoesNotFit."""
    text: str | None = await connection.fetchval(
        "SELECT pg_get_functiondef(oid) FROM pg_proc"
        " WHERE pronamespace = 'wallet'::regnamespace AND proname = $1",
        rewrite.function,
    )
    if text is None or rewrite.old not in text:
        raise DoesNotFit(f"function {rewrite.function} has nowhere: {rewrite.old!r}")
    return text.replace(rewrite.old, rewrite.new)


async def _run_check(
    name: str, seed: int, path: list[str], given: dict[str, object]
) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proof.checks", name, "--seed", str(seed),
        cwd=ROOT,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("TOLLGATE_")},
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONDONTWRITEBYTECODE": "1",
            STAGE: json.dumps(given),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        output, errors = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    except TimeoutError:
        process.kill()
        await process.wait()
        return BROKEN, f"no end within {SECONDS_MAX:.0f} s"
    words = output.decode(errors="replace").strip().splitlines()
    if process.returncode not in (SURVIVED, KILLED):
        words = errors.decode(errors="replace").strip().splitlines()
    return process.returncode or 0, words[-1][:300] if words else ""
