"""Failpoints act once, where they are armed, and nowhere else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from chassis import failpoints
from chassis.database import Database
from chassis.failpoints import FailpointReached, arming
from tests.conftest import MakeDatabase


async def test_a_place_fails_once_where_its_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / "points"
    with arming(str(file)):
        assert failpoints.armed is not None
        await failpoints.armed.reach("here")
        file.write_text("here error\nthere error\n")
        with pytest.raises(FailpointReached):
            await failpoints.armed.reach("here")
        await failpoints.armed.reach("here")
        assert file.read_text() == "there error\n"
    assert failpoints.armed is None


async def test_without_a_file_nothing_is_armed() -> None:
    with arming(""):
        assert failpoints.armed is None


async def test_a_place_that_hangs_goes_on_when_its_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / "points"
    file.write_text("here hang\n")
    with arming(str(file)):
        assert failpoints.armed is not None
        waiting = asyncio.create_task(failpoints.armed.reach("here"))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        file.write_text("here resume\n")
        await waiting
        assert file.read_text() == ""


async def test_what_fails_before_commit_leaves_nothing_and_after_it_everything(
    fresh_database: MakeDatabase, tmp_path: Path
) -> None:
    made = await fresh_database("wallet")
    file = tmp_path / "points"
    async with made.open("wallet", size=2) as database:
        with arming(str(file)):
            for point, kept in (("before_commit", False), ("after_commit_before_reply", True)):
                file.write_text(f"{point} error\n")
                marks: list[str] = []
                with pytest.raises(FailpointReached):
                    await _write(database, marks)
                assert await _committed(database, marks[0]) is kept, point


async def _committed(database: Database, mark: str) -> bool:
    async with database.transaction(uuid4()) as tx:
        return bool(await tx.fetchval("SELECT pg_xact_status($1::text::xid8) = 'committed'", mark))


async def _write(database: Database, marks: list[str]) -> None:
    async with database.money_transaction() as tx:
        await tx.execute("SELECT pg_logical_emit_message(true, 'x', 'y')")
        marks.append(await tx.fetchval("SELECT pg_current_xact_id()::text"))
