"""A Postgres and a Redis for one run of the tests: named by the caller, in Docker, or embedded."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chassis.embedded import EmbeddedPostgres, EmbeddedRedis

POSTGRES_IMAGE = "postgres:18"


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """A superuser's DSN: TEST_DATABASE_URL, else a container, else the embedded server."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
    elif docker_answers():
        from testcontainers.postgres import PostgresContainer

        container = PostgresContainer(POSTGRES_IMAGE, driver=None)
        with container.with_command("-c max_connections=200") as running:
            yield running.get_connection_url(driver=None)
    else:
        with EmbeddedPostgres(folder / "postgres") as server:
            yield server.dsn


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A Redis URL: TEST_REDIS_URL, else the embedded server."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
    else:
        with EmbeddedRedis(folder / "redis") as server:
            yield server.url


def docker_answers() -> bool:
    """Whether a Docker engine speaks on this machine's socket."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not where.startswith("unix://"):
        return False
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2.0)
            connection.connect(where.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False
