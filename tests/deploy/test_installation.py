"""The one-host installation, rehearsed without containers: provision, migrate, serve, work, stop.

The same commands, variables and secrets as in compose.yaml, in the environment that the image of
each service has. Only addresses differ: ports are free ones on loopback, stores are embedded.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import grpc
import pytest

from chassis.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.deploy.image import image_path
from tests.deploy.rendering import ROOT, SERVICES
from tests.deploy.test_compose import COMPOSE, filled

CHECK = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
READY_SECONDS_MAX = 90  # two programs start at once on two cores, beside other tests
STOP_SECONDS_MAX = 30
MOUNT = "/var/run/secrets/tollgate"


class Host:
    """What the host of an installation has: two stores, and the folder of secrets."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, redis: EmbeddedRedis) -> None:
        self.secrets = folder / "secrets"
        self._folder = folder
        subprocess.run(
            ["sh", ROOT / "deploy" / "compose" / "secrets.sh", self.secrets],
            check=True,
            capture_output=True,
        )
        # The stores listen on sockets here; all else in the DSNs stays as it was made.
        sockets = quote(str(postgres.place.sockets), safe="")
        for file in (f for f in self.secrets.iterdir() if f.is_file()):
            text = file.read_text()
            text = text.replace("@postgres:5432/tollgate", f"@/tollgate?host={sockets}&port=5432")
            if file.name == "redis_url":
                text = redis.url
            file.chmod(0o600)
            file.write_text(text)

    def container(self, name: str) -> tuple[list[str], dict[str, str]]:
        """The command and the environment of a container of compose.yaml, as on this host."""
        container = COMPOSE["services"][name]
        service = name.removesuffix("-work").removesuffix("-migrate")
        mounted = {s["target"]: self.secrets / s["source"] for s in container["secrets"]}
        variables = {"TOLLGATE_SERVICE": service, "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
        for variable, value in filled(container["environment"]).items():
            value = re.sub(r"^[\d.]+:\d+$", "127.0.0.1:0", value)
            variables[variable] = str(mounted[value]) if value in mounted else value
        code = (
            f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]"
            f" + {image_path(self._folder, service)}\n"
            "import runpy; runpy.run_module('chassis.program', run_name='__main__')"
        )
        return [sys.executable, "-I", "-S", "-c", code, *container["command"]], variables


@pytest.fixture(scope="module")
def host(own_postgres: EmbeddedPostgres) -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="tollgate-host-"))
    try:
        with EmbeddedRedis(folder / "redis") as redis:
            asyncio.run(_make_database(own_postgres.dsn))
            made = Host(folder, own_postgres, redis)
            subprocess.run(
                [
                    sys.executable, ROOT / "deploy" / "docker" / "provision.py", made.secrets,
                    *COMPOSE["services"]["provision"]["command"],
                ],
                check=True,
            )  # fmt: skip
            yield made
    finally:
        shutil.rmtree(folder)


async def _make_database(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE DATABASE tollgate")
    finally:
        await connection.close()


async def _ready(address: str) -> None:
    """Return once the program says that it should be sent calls."""
    request = b"\x0a\x05ready"
    async with grpc.aio.insecure_channel(address) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(request)
        async for answer in watch:
            if answer == SERVING:
                watch.cancel()
                return
    raise AssertionError("the program ended before it was ready")


async def _migrate(host: Host, service: str) -> list[str]:
    command, variables = host.container(f"{service}-migrate")
    migration = await asyncio.create_subprocess_exec(
        *command, env=variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await migration.communicate()
    assert migration.returncode == 0, err.decode()
    applied: list[str] = json.loads(out.decode().splitlines()[-1])["applied"]
    return applied


async def _run_until_ready(host: Host, name: str) -> None:
    """Start a program, wait until it is ready, stop it as Compose does; it must end well."""
    command, variables = host.container(name)
    program = await asyncio.create_subprocess_exec(
        *command, env=variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            assert program.stdout is not None
            while line := await program.stdout.readline():
                if line.startswith(b'{"listening"'):
                    break
            else:
                assert program.stderr is not None
                raise AssertionError((await program.stderr.read()).decode())
            announced = json.loads(line)
            await _ready(announced["health"])
        assert bool(announced["listening"]) == (not name.endswith("-work"))
        program.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS_MAX):
            _, said = await program.communicate()
        assert program.returncode == 0, said.decode()
    finally:
        if program.returncode is None:
            program.kill()
            await program.communicate()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_migrates_becomes_ready_in_both_roles_and_stops(
    host: Host, service: str
) -> None:
    assert await _migrate(host, service) != []
    async with asyncio.TaskGroup() as roles:
        roles.create_task(_run_until_ready(host, service))
        roles.create_task(_run_until_ready(host, f"{service}-work"))
