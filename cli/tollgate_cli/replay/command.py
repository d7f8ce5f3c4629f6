"""`tollgate replay`: bill a usage file by a mapping, on servers of its own."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from kernel.errors import InvalidValue
from kernel.money import parse_decimal
from tollgate_cli import screen
from tollgate_cli.replay.feeding import Outcome, replay, summarize
from tollgate_cli.replay.mapping import UsageMapping, load
from tollgate_cli.replay.reader import Survey, survey
from tollgate_cli.supervisor import running_suite
from tollgate_cli.tenancy import create_tenant
from tollgate_sdk import Tollgate

REFUSED = 2  # exit code: the input is wrong and nothing was fed
FAILED = 1  # exit code: it ran, and something was found wrong


def replay_file(
    file: Annotated[Path, typer.Argument(help="A file of usage: CSV, JSON Lines or CloudEvents.")],
    mapping: Annotated[Path, typer.Option(help="What its columns mean, and what usage costs.")],
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="csv, jsonl or cloudevents. Default: the mapping's."),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Where to write the figures as JSON.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Real time × this. Default: as fast as possible.")
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Folder of the embedded servers while it runs.")
    ] = Path(".tollgate/replay"),
) -> None:
    """Bill a stranger's usage: every row is counted, charged and checked."""
    try:
        pace = None if speed is None else _pace(speed)
        mapped = load(mapping, file_format)
        surveyed = survey(file, mapped)
    except InvalidValue as error:
        screen.told.print(f"{error.message}.", style="red", highlight=False)
        raise typer.Exit(REFUSED) from None
    outcome = asyncio.run(_run(file, mapped, surveyed, pace, folder))
    figures = summarize(outcome)
    if summary is not None:
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    screen.output.print(_table(figures))
    if not figures["verified"]:
        for sentence in outcome.findings.wrong:
            screen.told.print(f"not as it must be: {sentence}", style="red")
        raise typer.Exit(FAILED)


async def _run(
    file: Path, mapping: UsageMapping, surveyed: Survey, pace: Decimal | None, folder: Path
) -> Outcome:
    with screen.stages() as stage:
        started = stage("Starting Postgres, Redis and the services", 1)
        async with running_suite(folder, fresh=True) as suite:
            started(1)
            key = await create_tenant(suite.endpoints, suite.service_secret, "replay")
            fed = stage(f"Feeding {surveyed.rows:,} events", surveyed.rows)
            async with Tollgate(suite.endpoints, key) as client:
                return await replay(client, file, mapping, surveyed, speed=pace, progress=fed)


def _pace(text: str) -> Decimal:
    pace = parse_decimal(text, "--speed")
    if pace == 0:
        raise InvalidValue("--speed", "must be more than zero")
    return pace


def _table(figures: dict[str, Any]) -> Table:
    rows = Table(title="Replay", show_header=False, title_style="bold")
    rows.add_column(style="cyan")
    rows.add_column(justify="right")
    denied = ", ".join(f"{reason} {count:,}" for reason, count in figures["denied"].items())
    sums: dict[str, Decimal] = {}
    for assets in figures["charged"].values():
        for asset, value in assets.items():
            sums[asset] = sums.get(asset, Decimal(0)) + Decimal(value)
    rows.add_row("events", f"{figures['events']:,} at {figures['events_per_second']:,.0f} a second")
    rows.add_row("accepted", f"{figures['accepted']:,}")
    rows.add_row("duplicates", f"{figures['duplicates']:,}")
    rows.add_row("denied", f"{figures['rejected']:,} ({denied})" if denied else "0")
    rows.add_row("charged", ", ".join(f"{value} {asset}" for asset, value in sums.items()) or "0")
    rows.add_row("customers", f"{len(figures['usage']):,}")
    rows.add_row("verified", "yes" if figures["verified"] else "NO")
    return rows
