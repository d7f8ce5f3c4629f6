"""The main job as a person runs it, undisturbed and with every service killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pypdf
import pytest

from chassis.database import dsn_with
from chassis.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 3_000
STARTED_SECONDS_MAX = 120
ENDED_SECONDS_MAX = 400
# What depends on the speed of the machine, and on nothing else.
TIMINGS = {"authorize_ms", "events_per_second"}
NEWEST_DATABASE = (
    "SELECT datname FROM pg_database WHERE datname <> 'postgres' AND NOT datistemplate "
    "ORDER BY oid DESC LIMIT 1"
)
KILLED = ("metering", "wallet", "invoicing", "gateway", "identity")


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tollgate_cli", "demo", "--events", str(EVENTS),
         "--output", str(folder / "out"), "--folder", str(folder / "servers")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def finish(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    _, errors = process.communicate(timeout=ENDED_SECONDS_MAX)
    assert process.returncode == 0, errors
    summary: dict[str, Any] = json.loads((folder / "out" / "summary.json").read_text())
    return summary


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with demo(folder) as process:
        return folder, finish(process, folder)


def test_the_figures_of_the_demo_hang_together(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    _, summary = undisturbed
    assert summary["customers"] == 100
    assert summary["events"] == EVENTS
    assert summary["accepted"] + summary["duplicates"] + summary["rejected"] == EVENTS
    assert summary["duplicates"] == EVENTS // 100
    assert sum(summary["denied"].values()) == summary["rejected"] > 0
    assert summary["denied"].keys() == {"INSUFFICIENT_FUNDS"}
    assert summary["mrr"] == "2000"
    assert set(summary["charged"]) == {"USD", "token"}
    assert summary["recharges"] > 0
    # A first invoice for twenty teams, and a closing one for everybody who used anything.
    assert 110 <= summary["invoices_by_kind"]["subscription"] <= 120
    assert summary["invoices_by_kind"]["top_up"] == summary["recharges"]
    assert summary["dunning"] == 1
    assert float(summary["collected"]) < float(summary["invoiced"])
    assert 0 < summary["authorize_ms"]["p50"] <= summary["authorize_ms"]["p99"]
    assert summary["verified"] is True
    assert summary["verification"]["charges"] > summary["accepted"]


def test_the_invoice_of_the_demo_is_a_document_one_can_read(
    undisturbed: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = undisturbed
    with pypdf.PdfReader(folder / "out" / "invoice.pdf") as pdf:
        text = "\n".join(page.extract_text() for page in pdf.pages)
    for words in ("Example Inference Ltd", "INV-2025-", "Team seat", "Input tokens", "Total"):
        assert words in text
    assert (folder / "out" / "month.png").read_bytes().startswith(b"\x89PNG")


def test_killing_every_service_in_the_middle_changes_no_figure(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, expected = undisturbed
    with demo(tmp_path) as process:
        state = tmp_path / "servers" / "state.json"
        progress = Progress(tmp_path / "servers")
        for round_number, service in enumerate(KILLED, start=1):
            # Spread over the month, by how much of it has been ingested.
            progress.wait_for(round_number * EVENTS // (len(KILLED) + 2), process)
            pid = wait(lambda name=service: pid_of(state, name), process)
            os.kill(pid, signal.SIGKILL)
        summary = finish(process, tmp_path)
    assert without_timings(summary) == without_timings(expected)


class Progress:
    """How many events metering has stored, asked of the demo's own database."""

    def __init__(self, servers: Path) -> None:
        self._postgres = EmbeddedPostgres(servers / "postgres")

    def wait_for(self, events: int, process: subprocess.Popen[str]) -> None:
        wait(lambda: asyncio.run(self._stored()) >= events, process)

    async def _stored(self) -> int:
        if self._postgres.pid is None:
            return 0
        try:
            name = await self._ask("postgres", NEWEST_DATABASE)
            if name is None:
                return 0
            return int(await self._ask(name, "SELECT count(*) FROM metering.event") or 0)
        except (asyncpg.PostgresError, OSError):
            return 0  # the server or the schema is still being made

    async def _ask(self, database: str, question: str) -> Any:
        dsn = dsn_with(self._postgres.dsn, database=database)
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()


def pid_of(state: Path, service: str) -> int:
    return int(json.loads(state.read_text())["services"][service]["pid"] or 0)


def wait(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    give_up = time.monotonic() + STARTED_SECONDS_MAX
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up, "the demo does not go on"
        os.sched_yield()
    return found


def without_timings(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in TIMINGS}
