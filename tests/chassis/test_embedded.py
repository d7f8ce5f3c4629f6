"""Embedded servers: for root and for ordinary users, and back again after kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from chassis import embedded
from chassis.embedded import EmbeddedFailed, EmbeddedPostgres, EmbeddedRedis
from chassis.places import ServerUser, let_reach, let_read, server_user

ROOT = Path(__file__).resolve().parents[2]

ORDINARY = """
import os, sys
from chassis.embedded import EmbeddedPostgres, EmbeddedRedis
uid, folder = int(sys.argv[1]), sys.argv[2]
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
    os.environ["HOME"] = folder
with EmbeddedPostgres(folder + "/postgres") as postgres, EmbeddedRedis(folder + "/redis") as redis:
    assert postgres.pid and redis.pid
    assert os.stat(postgres.data_folder).st_uid == os.geteuid() != 0
    postgres.kill()
    postgres.start()
print("ok")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may pass through, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="tollgate-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


async def run_query(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_what_was_committed_survives_kill_9_of_the_whole_server(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres") as server:
        await run_query(server.dsn, "CREATE TABLE kept AS SELECT 42 AS x")
        first = server.pid
        server.kill()
        assert server.pid is None
        assert server.start() == server.dsn
        assert server.pid != first
        assert await run_query(server.dsn, "SELECT x FROM kept") == 42


async def test_a_server_whose_head_alone_was_killed_starts_again(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres") as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        server.start()
        assert server.pid not in (None, pid)
        assert await run_query(server.dsn, "SELECT 1") == 1


def test_a_second_program_finds_the_first_ones_servers(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres") as server, EmbeddedRedis(folder / "redis") as redis:
        for place, first in (("postgres", server), ("redis", redis)):
            second = type(first)(folder / place)
            with second:
                assert second.pid == first.pid
            # Whoever did not start it does not stop it.
            assert first.pid is not None


async def test_it_is_set_for_durability_and_speaks_to_its_user_only(folder: Path) -> None:
    deep = folder / ("deep" * 30)
    with EmbeddedPostgres(deep) as server:
        settings = {
            name: await run_query(server.dsn, f"SELECT current_setting('{name}')")
            for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses")
        }
        assert settings == {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "",
        }
        for private in (deep, server.place.sockets, server.data_folder):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        socket = server.place.sockets / ".s.PGSQL.5432"
        assert len(str(socket)) <= 100


def test_a_stale_pid_of_somebody_elses_process_does_not_stop_a_start(folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres") as server:
        server.kill()
        pid_file = server.data_folder / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        assert server.pid is None
        server.start()
        assert server.pid not in (None, os.getpid())


def test_an_ordinary_user_runs_both_servers_under_his_own_name(folder: Path) -> None:
    uid = 65534 if os.geteuid() == 0 else 0
    if uid:
        os.chown(folder, uid, uid)
    # The interpreter may lie where only root can read it, so it becomes somebody else by itself.
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", ORDINARY, str(uid), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "libs")},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ok\n", "")


async def test_redis_keeps_nothing_on_disk_and_comes_back_empty(folder: Path) -> None:
    import redis.asyncio

    with EmbeddedRedis(folder / "redis") as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.set("x", 1)
        server.kill()
        assert server.pid is None
        server.start()
        async with redis.asyncio.Redis.from_url(server.url) as client:
            assert await client.get("x") is None


def test_a_full_disk_is_one_clear_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "DISK_BYTES_MIN", 1 << 62)
    with pytest.raises(EmbeddedFailed, match="the disk is full"):
        EmbeddedPostgres(folder / "postgres").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
class TestReaching:
    """What another user is given so that he reaches a server's files: as little as will do."""

    @pytest.fixture
    def user(self) -> ServerUser:
        user = server_user()
        assert user is not None
        return user

    @staticmethod
    def as_user(user: ServerUser, *command: str) -> int:
        identity = {"user": user.uid, "group": user.gid, "extra_groups": []}
        return subprocess.run(command, capture_output=True, check=False, **identity).returncode

    def test_a_closed_directory_lets_the_user_through_but_not_look_around(
        self, folder: Path, user: ServerUser
    ) -> None:
        closed = folder / "closed"
        inner = closed / "open"
        inner.mkdir(parents=True)
        (inner / "file").write_text("x")
        closed.chmod(0o700)
        inner.chmod(0o755)
        assert self.as_user(user, "cat", str(inner / "file")) != 0
        let_reach(inner / "file", user)
        let_reach(inner / "file", user)
        assert self.as_user(user, "cat", str(inner / "file")) == 0
        assert self.as_user(user, "ls", str(closed)) != 0

    def test_nobody_else_is_let_through_where_the_file_system_can_tell_users_apart(
        self, folder: Path, user: ServerUser
    ) -> None:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        (closed / "file").write_text("x")
        try:
            os.setxattr(folder, "user.probe", b"x")
        except OSError:
            pytest.skip("this file system has no attributes")
        let_reach(closed / "file", user)
        stranger = ServerUser("stranger", 54321, 54321)
        assert self.as_user(user, "cat", str(closed / "file")) == 0
        assert self.as_user(stranger, "cat", str(closed / "file")) != 0

    def test_public_files_under_a_closed_umask_are_made_readable(
        self, folder: Path, user: ServerUser
    ) -> None:
        tree = folder / "wheel"
        (tree / "bin").mkdir(parents=True)
        program = tree / "bin" / "true"
        program.write_bytes(Path("/bin/true").read_bytes())
        program.chmod(0o700)
        (tree / "bin").chmod(0o700)
        tree.chmod(0o700)
        let_read(tree, user)
        assert self.as_user(user, str(program)) == 0
        assert stat.S_IMODE(program.stat().st_mode) == 0o705


def test_starting_from_two_programs_at_once_starts_one_server(folder: Path) -> None:
    async def start_twice() -> tuple[str, str]:
        first, second = (EmbeddedPostgres(folder / "postgres") for _ in range(2))
        one, two = await asyncio.gather(
            asyncio.to_thread(first.start), asyncio.to_thread(second.start)
        )
        assert first.pid == second.pid is not None
        first.stop()
        return one, two

    one, two = asyncio.run(start_twice())
    assert one == two
