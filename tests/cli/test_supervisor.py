"""The supervisor: everything starts, what dies comes back, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from chassis.places import is_running
from tests.support.waiting import until
from tollgate_cli.installation import Installation, SuiteFailed, redacted
from tollgate_cli.supervisor import Suite, leftover_pids, running_suite

FEW = ("identity", "gateway")  # each starts in a second; the others add nothing to these stories


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user may pass through, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="tollgate-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(autouse=True)
def _servers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


async def was_started_again(suite: Suite, service: str, old: int | None) -> None:
    await until(lambda: suite.pids[service] not in (old, None), what=f"another {service}")
    await suite.wait_until_serving(service)


async def test_a_killed_service_comes_back_where_it_was_and_the_end_leaves_nothing_running(
    folder: Path,
) -> None:
    async with running_suite(folder, FEW) as suite:
        assert set(suite.pids) == {"sandbox", *FEW}
        assert (await suite.seed_tenant("first")).startswith("tg_test_")
        address = suite.endpoints.identity
        for _ in range(2):
            old = suite.pids["identity"]
            suite.kill("identity")
            await was_started_again(suite, "identity", old)
        assert suite.restarts["identity"] == 2
        assert suite.restarts["gateway"] == 0
        assert suite.endpoints.identity == address
        assert (await suite.seed_tenant("second")).startswith("tg_test_")
        assert suite.postgres is not None
        assert suite.redis is not None
        pids = [*suite.pids.values(), suite.postgres.pid, suite.redis.pid]
    assert not any(is_running(pid) for pid in pids if pid is not None)


async def test_services_wait_for_a_database_that_was_killed_and_serve_again(folder: Path) -> None:
    async with running_suite(folder, ("identity",)) as suite:
        assert suite.postgres is not None
        suite.postgres.kill()

        async def is_not_serving() -> bool:
            return not await suite.is_serving("identity")

        await until(is_not_serving, what="identity not serving")
        pid = suite.pids["identity"]
        await asyncio.to_thread(suite.postgres.start)
        await suite.wait_until_serving()
        assert suite.pids["identity"] == pid
        assert (await suite.seed_tenant("after all")).startswith("tg_test_")


async def test_a_suite_stopped_and_started_keeps_what_was_stored(folder: Path) -> None:
    async with running_suite(folder, ("identity",)) as suite:
        assert suite.applied["identity"]
        await suite.seed_tenant("kept")
    async with running_suite(folder, ("identity",)) as suite:
        assert suite.applied == {"identity": []}
        assert await count_tenants(suite) == 1


async def test_a_fresh_suite_begins_with_nothing_and_takes_its_database_away(folder: Path) -> None:
    async with running_suite(folder, ("identity",)) as suite:
        await suite.seed_tenant("kept")
    async with running_suite(folder, ("identity",), fresh=True) as suite:
        assert await count_tenants(suite) == 0
        await suite.seed_tenant("passing")
    async with running_suite(folder, ("identity",)) as suite:
        assert await count_tenants(suite) == 1
        names = await fetch(suite, "SELECT datname FROM pg_database WHERE datname LIKE 'tollgate%'")
        assert names == []


async def test_two_suites_do_not_share_a_folder(folder: Path) -> None:
    async with running_suite(folder, ("identity",)):
        with pytest.raises(SuiteFailed, match="already runs"):
            async with running_suite(folder, ("identity",)):
                raise AssertionError("it started")


async def test_what_a_killed_supervisor_left_is_ended_by_the_next(folder: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from tollgate_cli.supervisor import running_suite\n"
        "async def main():\n"
        "    async with running_suite(sys.argv[1], ('identity',)) as suite:\n"
        "        suite.mark_ready()\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    installation = Installation(folder)
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(folder))
    await until(lambda: (installation.read_state() or {}).get("ready"), seconds_max=60)
    supervisor.kill()
    await supervisor.wait()
    left = leftover_pids(installation)
    assert len(left) == 1
    assert is_running(left[0])
    async with running_suite(folder, ("identity",)) as suite:
        assert not is_running(left[0])
        assert suite.pids["identity"] != left[0]


async def test_a_service_that_cannot_start_ends_the_suite_with_its_last_words(folder: Path) -> None:
    settings = {"identity": {"TOLLGATE_LOG_LEVEL": "shouting"}}
    with pytest.raises(SuiteFailed, match="LOG_LEVEL"):
        async with running_suite(folder, FEW, settings=settings):
            raise AssertionError("it started")
    assert leftover_pids(Installation(folder)) == []


async def test_secrets_are_made_once_and_only_their_owner_reads_them(folder: Path) -> None:
    installation = Installation(folder)
    installation.prepare()
    first = installation.service_secret
    installation.prepare()
    assert installation.service_secret == first
    for file in (
        installation.service_secret_file,
        installation.pepper_file,
        installation.passwords_file,
    ):
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_password_is_not_shown() -> None:
    assert redacted("postgresql://me:secret@db:5432/x") == "postgresql://me@db:5432/x"
    assert redacted("redis://db:6379/0") == "redis://db:6379/0"


async def count_tenants(suite: Suite) -> int:
    return len(await fetch(suite, "SELECT 1 FROM identity.tenant"))


async def fetch(suite: Suite, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(suite.database_url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


class TestCommand:
    """`tollgate` as a person meets it."""

    @staticmethod
    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        return subprocess.run(
            [sys.executable, "-m", "tollgate_cli", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**inherited, "COLUMNS": "200", **environment},
        )

    def test_up_status_down(self, folder: Path) -> None:
        where = ("--folder", str(folder))
        try:
            started = self.run("up", *where, "--port-base", "0")
            assert started.returncode == 0, started.stderr
            key = (folder / "api_key").read_text().strip()
            assert key.startswith("tg_test_")
            assert key in started.stdout
            assert "runs already" in self.run("up", *where).stderr
            shown = self.run("status", *where)
            assert shown.returncode == 0, shown.stdout
            assert shown.stdout.count(" serving ") == 6
            assert "up to date" in self.run("migrate", *where).stdout
        finally:
            stopped = self.run("down", *where)
        assert stopped.stdout == "Stopped.\n"
        assert self.run("status", *where).returncode == 3
        # Started again, it is the same installation with the same key.
        try:
            again = self.run("up", *where, "--port-base", "0")
            assert key in again.stdout
        finally:
            self.run("down", *where)

    def test_a_port_in_use_is_one_clear_sentence(self, folder: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            ended = self.run("up", "--folder", str(folder), "--port-base", str(port - 1))
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1] == (
            f"port {port} is in use; stop what uses it, or choose others by --port-base."
        )

    @pytest.mark.parametrize("command", ["up", "migrate"])
    def test_a_database_that_cannot_be_reached_is_one_clear_sentence(
        self, folder: Path, command: str
    ) -> None:
        dsn = "postgresql://admin:secret@127.0.0.1:1/x"
        ended = self.run(command, "--folder", str(folder), DATABASE_URL=dsn)
        assert ended.returncode == 1
        sentence = ended.stderr.splitlines()[-1]
        assert sentence.startswith("the database postgresql://admin@127.0.0.1:1/x cannot be used")
        assert "secret" not in ended.stderr + ended.stdout
        assert "Traceback" not in ended.stderr

    def test_a_full_disk_is_one_clear_sentence(self) -> None:
        # /dev/full answers every write as a full disk does.
        script = (
            "import sys\n"
            "from tollgate_cli.__main__ import explaining\n"
            "with explaining(), open('/dev/full', 'w') as file:\n"
            "    file.write('x')\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 1
        assert ended.stderr == "the disk is full.\n"
