"""What the probes of the chart and the health check of Compose ask, a running program answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from chassis.health import Health
from chassis.platform import Platform
from chassis.server import serving_health
from chassis.service import App, ServiceDefinition, running
from chassis.settings import Settings
from tests.deploy.rendering import LONG_RUNNING, ROOT, mode_values, pod_templates, render

CHECK = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
HEALTH_CHECK = ROOT / "deploy" / "docker" / "health_check.py"


@asynccontextmanager
async def _open(platform: Platform) -> AsyncIterator[App]:
    yield App(bindings=[])


# A database that nobody serves: port 1 on loopback refuses at once.
AWAY = Settings.load(
    {
        "TOLLGATE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "TOLLGATE_REDIS_URL": "redis://127.0.0.1:1/0",
        "TOLLGATE_HEALTH_LISTEN": "127.0.0.1:0",
        "TOLLGATE_SERVICE_SECRET": "0123456789abcdef0123456789abcdef",
    },
    service="probed",
)
DEFINITION = ServiceDefinition("probed", Settings, _open, "tests.deploy.no_migrations")


async def _ask(address: str, name: str) -> bytes:
    request = bytes([0x0A, len(name)]) + name.encode() if name else b""
    async with grpc.aio.insecure_channel(address) as channel:
        answer: bytes = await channel.unary_unary(CHECK)(request, timeout=10)
    return answer


def _probe_names() -> set[str]:
    return {
        container[probe]["grpc"]["service"]
        for pod in pod_templates(render(mode_values("minimal")))
        if pod.kind in LONG_RUNNING
        for container in pod.spec["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }


@pytest.mark.parametrize("role", ["serve", "work"])
async def test_a_missing_database_makes_a_program_unready_and_never_dead(role: str) -> None:
    """In both roles, on the health port, under the names that the chart's probes use."""
    wanted = {"startup": SERVING, "live": SERVING, "ready": NOT_SERVING, "": NOT_SERVING}
    assert _probe_names() == set(wanted) - {""}
    async with running(DEFINITION, AWAY, serve=role == "serve", work=role == "work") as program:
        answers = {name: await _ask(program.health_address, name) for name in wanted}
    assert answers == wanted


async def _health_check(address: str) -> tuple[int | None, str]:
    checked = await asyncio.create_subprocess_exec(
        sys.executable, str(HEALTH_CHECK), address, stderr=asyncio.subprocess.PIPE
    )
    _, said = await checked.communicate()
    return checked.returncode, said.decode()


async def test_the_health_check_fails_while_a_program_does_not_serve() -> None:
    health = Health()
    async with serving_health(health, "127.0.0.1:0") as address:
        assert await _health_check(address) == (1, "not serving\n")
        health.set("start", None)
        assert await _health_check(address) == (0, "")
    code, said = await _health_check(address)
    assert code == 1
    assert said.startswith("not reachable")
