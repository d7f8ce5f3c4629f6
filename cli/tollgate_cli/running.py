"""`tollgate up`, `down` and `status`: the suite as a person starts, stops and looks at it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from chassis.embedded import EmbeddedPostgres, EmbeddedRedis
from chassis.places import is_running, terminate
from tollgate_cli import screen
from tollgate_cli.installation import Installation, SuiteFailed
from tollgate_cli.supervisor import SANDBOX, leftover_pids, running_suite, seeded_key, serves_at

FOLDER = Path(".tollgate")
PORT_BASE = 7100
START_SECONDS_MAX = 180.0
STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1
NOT_RUNNING = 3  # exit code of `status`, as of init scripts

Folder = Annotated[Path, typer.Option(help="Where the installation's files lie.")]


def up(
    folder: Folder = FOLDER,
    port_base: Annotated[
        int, typer.Option(min=0, max=65_000, help="Services take the ports after it; 0: any free.")
    ] = PORT_BASE,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and stop everything at Ctrl-C.")
    ] = False,
) -> None:
    """Start everything on loopback, with a test tenant, and leave it running.

    Uses the servers that DATABASE_URL (as administrator) and REDIS_URL name, else its own.
    """
    installation = Installation(folder)
    if _supervisor(installation) is not None:
        screen.told.print("It runs already.")
    elif foreground:
        asyncio.run(_supervise(installation, port_base, announce=True))
        return
    else:
        _detach(installation, port_base)
    _print_endpoints(installation)


def down(folder: Folder = FOLDER) -> None:
    """Stop everything that `tollgate up` started here. What is stored stays."""
    installation = Installation(folder)
    pid = _supervisor(installation)
    if pid is not None:
        terminate(pid, None, urgent=False, seconds_max=STOP_SECONDS_MAX)
    # What a supervisor that was killed left behind.
    leftovers = leftover_pids(installation)
    for leftover in leftovers:
        terminate(leftover, None, urgent=False, seconds_max=STOP_SECONDS_MAX)
    stores = (
        EmbeddedPostgres(installation.folder / "postgres"),
        EmbeddedRedis(installation.folder / "redis"),
    )
    running = [server for server in stores if server.pid is not None]
    for server in running:
        server.stop()
    installation.state_file.unlink(missing_ok=True)
    idle = pid is None and not leftovers and not running
    screen.output.print("Nothing was running." if idle else "Stopped.")


def status(folder: Folder = FOLDER) -> None:
    """Show what runs, where it answers and how often it was started again."""
    installation = Installation(folder)
    state = installation.read_state()
    if state is None or _supervisor(installation) is None:
        screen.output.print("Nothing is running here; `tollgate up` starts it.")
        raise typer.Exit(NOT_RUNNING)
    serving = asyncio.run(_probe(state))
    table = Table()
    for column in ("service", "state", "process", "address", "metrics", "started again"):
        table.add_column(column)
    for name, service in state["services"].items():
        words = "[green]serving[/]" if serving[name] else "[red]not serving[/]"
        table.add_row(
            name, words, str(service["pid"] or "–"), service["address"], service["metrics"],
            str(service["restarts"]),
        )  # fmt: skip
    screen.output.print(table)
    screen.output.print(f"Postgres: {state['database']}. Redis: {state['redis']}.")
    if not all(serving.values()):
        raise typer.Exit(1)


async def _probe(state: dict[str, Any]) -> dict[str, bool]:
    async def serves(name: str, service: dict[str, Any]) -> bool:
        if service["pid"] is None or not is_running(service["pid"]):
            return False
        return name == SANDBOX or await serves_at(service["address"])

    services: dict[str, dict[str, Any]] = state["services"]
    answers = await asyncio.gather(*(serves(name, found) for name, found in services.items()))
    return dict(zip(services, answers, strict=True))


def _supervisor(installation: Installation) -> int | None:
    """The process that runs the suite in this folder, or None."""
    state = installation.read_state()
    pid = state["supervisor"] if state else None
    return pid if pid is not None and is_running(pid) else None


def _print_endpoints(installation: Installation) -> None:
    state = installation.read_state()
    if state is None:
        raise SuiteFailed(f"the suite ended; its logs are in {installation.logs}")
    table = Table(title="Tollgate", show_header=False, title_style="bold")
    table.add_column(style="cyan")
    table.add_column()
    for name, address in state["endpoints"].items():
        table.add_row(f"{name} (gRPC)", address)
    if state["sandbox"]:
        table.add_row("sandbox provider", state["sandbox"])
    table.add_row("key of a test tenant", installation.api_key_file.read_text().strip())
    table.add_row("logs", str(installation.logs))
    screen.output.print(table)
    screen.output.print("`tollgate status` looks at it, `tollgate down` stops it.")


# --- the supervisor's own process -----------------------------------------------------------------


def _detach(installation: Installation, port_base: int) -> None:
    """Start a supervisor that outlives this command, and wait until all of it serves."""
    installation.prepare()
    log = installation.logs / "supervisor.log"
    command = [sys.executable, "-m", "tollgate_cli.running", str(installation.folder)]
    with screen.stages() as stage, log.open("wb") as output:
        started = stage("Starting Postgres, Redis and the services", 1)
        supervisor = subprocess.Popen(
            [*command, str(port_base)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not _is_ready(installation, supervisor.pid):
            if supervisor.poll() is not None:
                raise SuiteFailed(_last_line(log))
            if time.monotonic() > deadline:
                terminate(supervisor.pid, None, urgent=False, seconds_max=STOP_SECONDS_MAX)
                raise SuiteFailed(f"the suite did not start in time; its logs are in {log.parent}")
            time.sleep(POLL_SECONDS)
        started(1)
    # It is on its own now: forget it, so that nobody complains that it was not waited for.
    supervisor.returncode = 0


def _is_ready(installation: Installation, pid: int) -> bool:
    state = installation.read_state()
    return state is not None and state["supervisor"] == pid and state["ready"]


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].rstrip(".") if lines else f"the supervisor ended without a word; see {log}"


async def _supervise(installation: Installation, port_base: int, *, announce: bool) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with running_suite(installation.folder, port_base=port_base) as suite:
        await seeded_key(suite)
        suite.mark_ready()
        if announce:
            _print_endpoints(installation)
        await told.wait()


def _main() -> None:
    """`python -m tollgate_cli.running FOLDER PORT_BASE`, as `_detach` starts it."""
    from tollgate_cli.__main__ import explaining

    os.umask(0o077)
    with explaining():
        asyncio.run(_supervise(Installation(Path(sys.argv[1])), int(sys.argv[2]), announce=False))


if __name__ == "__main__":
    _main()
