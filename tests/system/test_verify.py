"""`tollgate verify` as a person runs it: all agrees, something does not, it cannot be looked at."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.system.test_replay import JSON_LINES, SMALL_MAPPING
from tollgate_cli.replay.feeding import replay
from tollgate_cli.replay.mapping import load
from tollgate_cli.replay.reader import survey
from tollgate_cli.supervisor import Suite, running_suite
from tollgate_sdk import Tollgate

ROOT = Path(__file__).resolve().parents[2]


async def verify(folder: Path, key: str = "", *options: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tollgate_cli", "verify", "--folder", str(folder), *options,
        cwd=ROOT, env=os.environ | ({"TOLLGATE_API_KEY": key} if key else {}),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    text = " ".join((output if process.returncode != 2 else errors).decode().split())
    return process.returncode or 0, text


async def use(suite: Suite, key: str, folder: Path) -> None:
    """Bill a small file, so that there is something to verify."""
    (folder / "usage.jsonl").write_text(JSON_LINES)
    (folder / "map.yaml").write_text(SMALL_MAPPING)
    mapping = load(folder / "map.yaml")
    surveyed = survey(folder / "usage.jsonl", mapping)
    async with Tollgate(suite.endpoints, key) as client:
        outcome = await replay(client, folder / "usage.jsonl", mapping, surveyed)
    assert outcome.findings.clean, outcome.findings.wrong


async def change(suite: Suite, statement: str) -> None:
    connection = await asyncpg.connect(suite.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_verify_says_which_figure_disagrees_and_with_what(tmp_path: Path) -> None:
    folder = tmp_path / "servers"
    async with running_suite(folder) as suite:
        key = await suite.seed_tenant("verify")
        await use(suite, key, tmp_path)
        code, text = await verify(folder, key)
        assert (code, "Every balance and every charge agrees." in text) == (0, True)
        code, text = await verify(folder, key, "--json")
        assert json.loads(text)["verified"] is True

        await change(suite, "UPDATE wallet.balances SET debited = debited - 1 WHERE debited > 0")
        code, text = await verify(folder, key)
        assert code == 1
        assert "debited" in text
        assert "the journal says" in text

        # Set right again, and one charge forgotten instead.
        await change(suite, "UPDATE wallet.balances SET debited = debited + 1 WHERE debited > 0")
        code, text = await verify(folder, key)
        assert code == 0
        await change(
            suite,
            "UPDATE metering.usage SET quantity = quantity + 1 "
            "WHERE ctid = (SELECT ctid FROM metering.usage LIMIT 1)",
        )
        code, text = await verify(folder, key)
        assert code == 1
        assert "the events say" in text


async def test_what_cannot_be_looked_at_is_not_called_verified(tmp_path: Path) -> None:
    code, text = await verify(tmp_path / "nothing", "tg_test_of_nobody")
    assert code == 2
    assert "nothing is running here" in text
    code, text = await verify(
        tmp_path / "nothing", "tg_test_of_nobody", "--endpoints", "wallet=127.0.0.1:9,purse=1:1"
    )
    assert code == 2
    assert "'purse' is not one of" in text


@pytest.mark.parametrize("command", ["demo", "replay", "rate", "verify", "migrate", "up", "down"])
async def test_every_command_explains_itself(command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tollgate_cli", command, "--help",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert "Usage" in output.decode()
