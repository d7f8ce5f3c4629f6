"""Processor time of the servers, read from /proc: services, and Postgres with its backends."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tollgate_cli.supervisor import Suite

TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name: parent, and time in user and system mode of the process
# and of its children that ended.
PARENT = 1
TIMES = slice(11, 15)


class Processor:
    """What the servers of a suite used since this was made, in milliseconds of one processor."""

    def __init__(self, suite: Suite) -> None:
        self._roots = {pid for pid in suite.pids.values() if pid is not None}
        # A Postgres that was named rather than started here runs where it cannot be read.
        self.has_postgres = suite.postgres is not None
        if suite.postgres is not None and suite.postgres.pid is not None:
            self._roots.add(suite.postgres.pid)
        self._begun = self._ticks()

    def milliseconds(self) -> float:
        return (self._ticks() - self._begun) * 1_000 / TICKS

    def _ticks(self) -> int:
        stats = dict(_stats())
        parents = {pid: int(fields[PARENT]) for pid, fields in stats.items()}
        return sum(
            sum(int(ticks) for ticks in stats[pid][TIMES])
            for pid in stats
            if self._is_ours(pid, parents)
        )

    def _is_ours(self, pid: int, parents: dict[int, int]) -> bool:
        while pid > 1:
            if pid in self._roots:
                return True
            pid = parents.get(pid, 0)
        return False


def _stats() -> Iterable[tuple[int, list[str]]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                text = (path / "stat").read_text()
            except OSError:
                continue  # it ended meanwhile
            yield int(path.name), text.rpartition(")")[2].split()
