"""`tollgate migrate`: roles, schemas and migrations of every service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tollgate_cli import screen
from tollgate_cli.installation import (
    SERVICES,
    Installation,
    open_database,
    provision_and_migrate,
)


def migrate(
    folder: Annotated[Path, typer.Option(help="Where the installation's files lie.")] = Path(
        ".tollgate"
    ),
) -> None:
    """Bring the database up to date: the one DATABASE_URL names, else the embedded one.

    May be repeated, and may run while the suite does: migrations go forward only, and older
    programs go on with newer schemas.
    """
    installation = Installation(folder)
    installation.prepare()
    applied = asyncio.run(_migrate(installation))
    for service, revisions in applied.items():
        words = ", ".join(revisions) if revisions else "up to date"
        screen.output.print(f"{service}: {words}", highlight=False)


async def _migrate(installation: Installation) -> dict[str, list[str]]:
    async with open_database(installation) as dsn:
        return await provision_and_migrate(dsn, installation.passwords, SERVICES)
