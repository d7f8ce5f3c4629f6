"""The journal: a crash at any byte loses nothing confirmed and repeats nothing acknowledged."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate_sdk.errors import JournalBroken, JournalCorrupted, JournalLocked
from tollgate_sdk.journal import Journal
from tollgate_sdk.segments import frame, frame_runs, scan, scan_runs

SEGMENT_BYTES = 200  # a few records, so that short runs cross many segments

payloads = st.binary(min_size=1, max_size=60)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(payloads, min_size=1, max_size=5)),
        st.tuples(st.just("acknowledge"), st.lists(st.integers(0, 40), max_size=8)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=12,
)
PROPERTY = settings(derandomize=True, max_examples=100, deadline=None)


class Life:
    """A journal and what it must know, over several lives of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stored: dict[int, bytes] = {}
        self.acknowledged: set[int] = set()
        self.journal = Journal(folder, segment_bytes=SEGMENT_BYTES)

    def run(self, work: Sequence[tuple[str, object]]) -> None:
        for name, argument in work:
            match argument:
                case list() if name == "append":
                    self.append(argument)
                case list():
                    self.acknowledge(argument)
                case _:
                    self.reopen()

    def append(self, contents: list[bytes]) -> None:
        positions = self.journal.append(contents, durable=True)
        assert not set(positions) & self.left().keys()
        self.acknowledged -= set(positions)  # a journal that was emptied counts from one again
        self.stored.update(zip(positions, contents, strict=True))

    def acknowledge(self, choices: list[int]) -> None:
        left = sorted(self.left())
        chosen = {left[choice % len(left)] for choice in choices} if left else set()
        self.journal.acknowledge(chosen)
        self.acknowledged |= chosen

    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal(self.folder, segment_bytes=SEGMENT_BYTES)
        assert list(self.journal.unacknowledged) == sorted(self.left().items())

    def left(self) -> dict[int, bytes]:
        return {p: c for p, c in self.stored.items() if p not in self.acknowledged}


@PROPERTY
@given(steps)
def test_what_is_not_acknowledged_is_found_again_in_order(work: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder))
        life.run(work)
        life.reopen()
        life.journal.acknowledge(life.left())
        life.journal.close()
        assert {path.name for path in Path(folder).iterdir()} == {"lock"}, "all of it is done"


@PROPERTY
@given(
    work=steps,
    unconfirmed=st.lists(payloads, max_size=4),
    early=st.integers(0, 4),
    tail=st.sampled_from(["cut", "zeros", "noise"]),
    share=st.one_of(st.just(0.0), st.floats(0, 1)),
    acks_share=st.one_of(st.just(1.0), st.floats(0, 1)),
    after=st.lists(payloads, min_size=1, max_size=3),
)
def test_a_crash_anywhere_loses_nothing_confirmed_and_repeats_nothing_acknowledged(
    work: list[tuple[str, object]],
    unconfirmed: list[bytes],
    early: int,
    tail: str,
    share: float,
    acks_share: float,
    after: list[bytes],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        life = Life(Path(name) / "first")
        life.run(work)
        confirmed = {path.name: path.stat().st_size for path in events_of(life.folder)}
        positions = life.journal.append(unconfirmed, durable=False) if unconfirmed else []
        # Answered before their records were on disk: these may be gone, the acknowledgements not.
        life.journal.acknowledge(positions[early:])
        crashed = Path(name) / "crashed"
        shutil.copytree(life.folder, crashed)
        tear_events(crashed, confirmed, tail, share)
        recorded = tear_acks(crashed, acks_share)
        life.journal.close()

        second = Journal(crashed, segment_bytes=SEGMENT_BYTES)
        found = dict(second.unacknowledged)
        assert list(found) == sorted(found)
        known = life.stored | dict(zip(positions, unconfirmed, strict=True))
        assert all(known[position] == content for position, content in found.items())
        assert life.left().keys() <= found.keys(), "confirmed and not acknowledged: must be there"
        assert not found.keys() & recorded, "acknowledged on disk: must not be repeated"

        new = second.append(after, durable=True)
        second.close()
        with closing(Journal(crashed, segment_bytes=SEGMENT_BYTES)) as third:
            expected = found | dict(zip(new, after, strict=True))
            assert dict(third.unacknowledged) == expected, "new ones must not count as done"


def events_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.events"))


def tear_events(folder: Path, confirmed: dict[str, int], tail: str, share: float) -> None:
    """Leave of the last segment what was confirmed, and any part of the rest, or other bytes."""
    if not events_of(folder):
        return
    last = events_of(folder)[-1]
    whole = confirmed.get(last.name, 0)
    content = last.read_bytes()
    kept = whole + int((len(content) - whole) * share)
    lost = len(content) - kept
    filling = {"cut": b"", "zeros": bytes(lost + 3), "noise": bytes(range(1, 200))[:lost]}[tail]
    last.write_bytes(content[:kept] + filling)


def tear_acks(folder: Path, share: float) -> set[int]:
    """Cut every record of acknowledgements short, and answer what still stands in them."""
    recorded: set[int] = set()
    for path in folder.glob("*.acks"):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        recorded |= scan_runs(path.read_bytes())[0]
    return recorded


@PROPERTY
@given(st.lists(payloads, max_size=6), st.data())
def test_a_record_is_read_whole_or_not_at_all(contents: list[bytes], data: st.DataObject) -> None:
    written = b"".join(map(frame, contents))
    cut = data.draw(st.integers(0, len(written)))
    found, end = scan(written[:cut])
    assert found == contents[: len(found)]
    assert end == sum(len(frame(content)) for content in found)
    assert scan(written)[0] == contents


@PROPERTY
@given(st.sets(st.integers(1, 2**40)))
def test_acknowledged_positions_are_read_as_written(positions: set[int]) -> None:
    written = frame_runs(positions)
    assert scan_runs(written) == (positions, len(written))


def test_neighbours_are_acknowledged_in_one_run() -> None:
    assert len(frame_runs(range(1, 1_000))) == len(frame_runs([5]))


def test_damage_before_the_end_is_told_and_nothing_is_changed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=20)
    for number in range(3):
        journal.append([b"record %d" % number], durable=True)
        journal.append([b"another"], durable=True)
    journal.close()
    first = events_of(tmp_path)[0]
    content = bytearray(first.read_bytes())
    content[12] ^= 1
    first.write_bytes(content)
    before = {path.name: path.read_bytes() for path in events_of(tmp_path)}
    with pytest.raises(JournalCorrupted) as raised:
        Journal(tmp_path, segment_bytes=20)
    assert (raised.value.path, raised.value.offset) == (first, 0)
    assert {path.name: path.read_bytes() for path in events_of(tmp_path)} == before
    first.rename(tmp_path / "damaged")
    with closing(Journal(tmp_path)) as again:
        assert len(again.unacknowledged) == 4


def test_a_folder_belongs_to_one_journal(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)), pytest.raises(JournalLocked):
        Journal(tmp_path)
    Journal(tmp_path).close()


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from tollgate_sdk.journal import Journal\n"
    script += "journal = Journal(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(JournalLocked):
            Journal(tmp_path)
        other.kill()
    Journal(tmp_path).close()


def test_a_write_that_fails_half_way_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.append([b"first"], durable=True)
    real = os.write

    def full(file: int, content: memoryview) -> int:
        if len(content) > 4:
            return real(file, content[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(JournalBroken, match="No space left"):
        journal.append([b"second"], durable=True)
    monkeypatch.undo()
    journal.append([b"third"], durable=True)
    journal.close()
    with closing(Journal(tmp_path)) as again:
        assert [record.payload for record in again.unacknowledged] == [b"first", b"third"]


def test_after_a_failed_sync_nothing_more_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.append([b"first"], durable=True)

    def broken(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(JournalBroken):
        journal.append([b"second"], durable=True)
    monkeypatch.undo()
    with pytest.raises(JournalBroken, match="failed before"):
        journal.append([b"third"], durable=True)
    journal.close()
    with closing(Journal(tmp_path)) as again:
        assert again.unacknowledged[0].payload == b"first"
        again.append([b"fourth"], durable=True)


def test_refused_events_are_kept_for_people(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)) as journal:
        journal.keep_refused(['{"event": 1}'])
        journal.keep_refused(['{"event": 2}', '{"event": 3}'])
    lines = (tmp_path / "refused.jsonl").read_text().splitlines()
    assert lines == ['{"event": 1}', '{"event": 2}', '{"event": 3}']
