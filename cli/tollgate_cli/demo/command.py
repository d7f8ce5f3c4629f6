"""`tollgate demo`: the whole main job, on servers of its own, with its figures on the screen."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from tollgate_cli import screen
from tollgate_cli.demo import plot
from tollgate_cli.demo.story import Outcome, tell
from tollgate_cli.demo.summary import summarize, table
from tollgate_cli.supervisor import Suite, running_suite
from tollgate_cli.tenancy import create_tenant
from tollgate_sdk import Tollgate

EVENTS = 100_000
EVENTS_MIN, EVENTS_MAX = 1_000, 1_000_000
FAILED = 1  # exit code: it ran, and something was found wrong


def demo(
    events: Annotated[
        int, typer.Option(min=EVENTS_MIN, max=EVENTS_MAX, help="Usage events in the month.")
    ] = EVENTS,
    output: Annotated[
        Path, typer.Option(help="Folder for the summary, the invoice and the plot.")
    ] = Path("build/demo"),
    folder: Annotated[
        Path, typer.Option(help="Folder of the embedded servers while the demo runs.")
    ] = Path(".tollgate/demo"),
) -> None:
    """Run a month of LLM usage of 100 customers: gated, charged, invoiced, collected, verified."""
    output.mkdir(parents=True, exist_ok=True)
    outcome = asyncio.run(_run(events, folder))
    summary = summarize(outcome)
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (output / "invoice.pdf").write_bytes(outcome.pdf)
    plot.draw(outcome.days, output / "month.png")
    screen.output.print(table(summary))
    screen.output.print(
        f"In {output}: summary.json, invoice.pdf (number {outcome.pdf_number}), month.png"
    )
    if not summary["verified"]:
        for sentence in outcome.findings.wrong:
            screen.told.print(f"not as it must be: {sentence}", style="red")
        raise typer.Exit(FAILED)


async def _run(events: int, folder: Path) -> Outcome:
    with screen.stages() as stage:
        started = stage("Starting Postgres, Redis and the services", 1)
        async with running_suite(folder, fresh=True) as suite:
            started(1)
            return await _tell(suite, events, stage)


async def _tell(suite: Suite, events: int, stage: screen.Stages) -> Outcome:
    key = await create_tenant(suite.endpoints, suite.service_secret, "demo")
    async with Tollgate(suite.endpoints, key) as client:
        return await tell(client, suite.sandbox_endpoint, events, stage)
