"""Every seeded bug still has its place in the code, so that `make prove` tries what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from proof.checks import CHECKS
from proof.mutants import rewritten
from proof.mutants.catalog import MUTANTS, Mutant
from tests.conftest import MakeDatabase

ROOT = Path(__file__).resolve().parents[2]
NAMES = [mutant.name for mutant in MUTANTS]


def test_there_are_enough_and_each_has_a_name_and_a_check() -> None:
    assert len(MUTANTS) >= 20
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []
    assert {mutant.check for mutant in MUTANTS} <= set(CHECKS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_the_words_that_a_mutant_changes_stand_once_in_their_file(mutant: Mutant) -> None:
    for patch in mutant.patches:
        text = (ROOT / patch.file).read_text(encoding="utf-8")
        assert text.count(patch.old) == 1, f"{patch.file}: {patch.old!r}"
        assert patch.new != patch.old


async def test_the_functions_that_mutants_change_have_their_words(
    fresh_database: MakeDatabase,
) -> None:
    database = await fresh_database("wallet")
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        for mutant in MUTANTS:
            for rewrite in mutant.rewrites:
                assert await rewritten(connection, rewrite)
            for statement in mutant.statements:
                if "{database}" not in statement:
                    await connection.execute(statement)
    finally:
        await connection.close()
