"""A ledger is verified in shards, and a walk that was interrupted goes on where it stood."""

from __future__ import annotations

from pathlib import Path

import pytest

from tollgate_cli.walking import Walk


def test_an_interrupted_walk_goes_on_where_it_stood(tmp_path: Path) -> None:
    file = tmp_path / "walk.json"
    walk = Walk.open(3, file)
    assert walk.left == [0, 1, 2]
    walk.step(0, "", 10, 100, [])
    walk.step(1, "next", 5, 50, [("w2", "balance.held USD", "w2 is wrong")])
    resumed = Walk.open(3, file)
    assert resumed.left == [1, 2]
    assert (resumed.token(1), resumed.token(2)) == ("next", "")
    assert (resumed.wallets, resumed.transfers) == (15, 150)
    resumed.step(1, "", 1, 1, [("w1", "grant.held g", "w1 is wrong")])
    assert resumed.first == "w1 is wrong"
    resumed.step(2, "", 1, 1, [])
    assert resumed.left == []
    resumed.close()
    assert not file.exists()


def test_a_file_of_another_walk_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "walk.json"
    Walk.open(3, file).step(0, "", 1, 1, [])
    with pytest.raises(ValueError, match="is of 3 shards"):
        Walk.open(4, file)
