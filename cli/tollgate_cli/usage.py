"""`tollgate usage export`: usage of one tenant of a running installation as a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kernel.errors import InvalidValue
from tollgate.metering.v1 import usage_pb2
from tollgate.type.v1 import amount_pb2
from tollgate_cli import screen
from tollgate_cli.connecting import find_endpoints, find_key
from tollgate_cli.tenancy import render_time
from tollgate_sdk import Endpoints, Tollgate

WINDOWS = ("whole", "hour", "day", "month")
FORMATS = ("csv", "parquet")
SECONDS_MAX = 3_600.0  # of one export

usage = typer.Typer(help="What was counted.", no_args_is_help=True)


@usage.callback()
def _usage() -> None:
    """What was counted."""


@usage.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="Where to write; .csv or .parquet says the form.")],
    start: Annotated[str, typer.Option("--from", help="First instant, ISO 8601; UTC if unsaid.")],
    end: Annotated[str, typer.Option("--to", help="The instant after the last.")],
    customer: Annotated[list[str] | None, typer.Option(help="Only these; repeatable.")] = None,
    meter: Annotated[list[str] | None, typer.Option(help="Only these; repeatable.")] = None,
    window: Annotated[str, typer.Option(help="whole, hour, day or month.")] = "day",
    zone: Annotated[str, typer.Option(help="IANA zone in which days begin.")] = "UTC",
    by: Annotated[list[str] | None, typer.Option(help="Group by a dimension; repeatable.")] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="csv or parquet. Default: by the file's name.")
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where the installation's files lie, for its addresses and key.")
    ] = Path(".tollgate"),
    endpoints: Annotated[
        str, typer.Option(help="Instead: addresses, as wallet=host:port,metering=host:port,…")
    ] = "",
) -> None:
    """Write usage by customer, meter, window and dimension to a file. The tenant is that of the API
    key in TOLLGATE_API_KEY, else of the seeded one."""
    form = file_format or file.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise InvalidValue("--format", f"{form!r} is none of {', '.join(FORMATS)}")
    if window not in WINDOWS:
        raise InvalidValue("--window", f"{window!r} is none of {', '.join(WINDOWS)}")
    width = "UNSPECIFIED" if window == "whole" else window.upper()
    request = usage_pb2.ExportUsageRequest(
        query=usage_pb2.QueryUsageRequest(
            customer_ids=customer or [],
            meters=meter or [],
            interval=amount_pb2.Interval(
                start_time=render_time(_instant(start, "--from")),
                end_time=render_time(_instant(end, "--to")),
            ),
            window=usage_pb2.UsageWindow.Value(f"USAGE_WINDOW_{width}"),
            time_zone=zone,
            group_by=by or [],
        ),
        format=usage_pb2.ExportFormat.Value(f"EXPORT_FORMAT_{form.upper()}"),
    )
    where, key = find_endpoints(folder, endpoints), find_key(folder)
    rows = asyncio.run(_export(where, key, request, file))
    screen.output.print(f"{rows:,} rows in {file}.", highlight=False)


async def _export(
    where: Endpoints, key: str, request: usage_pb2.ExportUsageRequest, path: Path
) -> int:
    """Write the file beside its name and move it there when it is whole; answers its rows."""
    rows = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        async with Tollgate(where, key, retry_seconds=10) as client:
            with partial.open("wb") as file:
                async for part in client.export_usage(request, seconds=SECONDS_MAX):
                    file.write(part.content)
                    rows = part.rows
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    return rows


def _instant(text: str, option: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(option, f"{text!r} is not a time") from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
