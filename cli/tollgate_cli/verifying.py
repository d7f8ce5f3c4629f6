"""`tollgate verify`: check one tenant of a running installation, from the outside."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from tollgate_cli import screen
from tollgate_cli.connecting import find_endpoints, find_key
from tollgate_cli.installation import SuiteFailed
from tollgate_cli.verify import Findings, verify
from tollgate_cli.walking import SHARDS_MAX, Walk
from tollgate_sdk import Endpoints, Tollgate, TollgateError

DISAGREES = 1  # exit code: it was looked at and something is wrong
UNDECIDED = 2  # exit code: it could not be looked at


def verify_tenant(
    folder: Annotated[
        Path, typer.Option(help="Where the installation's files lie, for its addresses and key.")
    ] = Path(".tollgate"),
    endpoints: Annotated[
        str, typer.Option(help="Instead: addresses, as wallet=host:port,metering=host:port,…")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    shards: Annotated[
        int, typer.Option(min=1, max=SHARDS_MAX, help="Parts of the ledger looked at side by side.")
    ] = 1,
    resume: Annotated[
        Path | None,
        typer.Option(help="A file that keeps how far the ledger was looked at; go on from it."),
    ] = None,
) -> None:
    """Re-derive every balance from the journal, recount every event, and compare every charge with
    its debit. The tenant is that of the API key in TOLLGATE_API_KEY, else of the seeded one.

    Exit code 0: all agrees. 1: something does not. 2: it could not be looked at.
    """
    try:
        where, key = find_endpoints(folder, endpoints), find_key(folder)
        walk = Walk.open(shards, resume)
        findings = asyncio.run(_verify(where, key, walk))
        walk.close()
    except (SuiteFailed, TollgateError, ValueError) as error:
        screen.told.print(f"{error}.", style="red", highlight=False)
        raise typer.Exit(UNDECIDED) from None
    if as_json:
        screen.output.print_json(json.dumps(vars(findings) | {"verified": findings.clean}))
    else:
        _print(findings)
    if not findings.clean:
        raise typer.Exit(DISAGREES)


async def _verify(where: Endpoints, key: str, walk: Walk) -> Findings:
    with screen.stages() as stage:
        counters = {
            "ledger": stage("Wallets whose journal was replayed", 0),
            "usage": stage("Customers whose events were recounted", 0),
            "charges": stage("Charges compared with their debits", 0),
        }
        async with Tollgate(where, key, retry_seconds=10) as client:
            return await verify(client, lambda name, count: counters[name](count), walk)


def _print(findings: Findings) -> None:
    screen.output.print(
        f"{findings.wallets:,} wallets, {findings.transfers:,} transfers, "
        f"{findings.events:,} events, {findings.charges:,} charges looked at."
    )
    if findings.first:
        screen.output.print(
            f"the first row that disagrees: {findings.first}", style="red", highlight=False
        )
    for sentence in findings.wrong:
        screen.output.print(f"not as it must be: {sentence}", style="red", highlight=False)
    if findings.clean:
        screen.output.print("Every balance and every charge agrees.", style="green")
