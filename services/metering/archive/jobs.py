"""Archives the days beyond the retention, once an hour."""

from __future__ import annotations

import asyncio

import structlog

from chassis.database import DatabaseUnavailable, OutcomeUnknown
from metering.archive.domain import ArchiveDamaged
from metering.archive.operations import Archive

HOUR_SECONDS = 3_600.0
AWAY_SECONDS = 60.0

log = structlog.get_logger("metering.archive")


class ArchiveSweep:
    """Looks for days to archive, where there is an archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def run(self) -> None:
        """Until cancelled. A database or an object store that is away is waited for: nothing is
        dropped that was not read back."""
        while True:
            pause = HOUR_SECONDS
            if self._archive.is_set:
                try:
                    await self._archive.sweep()
                except (DatabaseUnavailable, OutcomeUnknown, OSError) as error:
                    log.warning("archive_waits", why=str(error) or type(error).__name__)
                    pause = AWAY_SECONDS
                except ArchiveDamaged as refusal:
                    log.error("archive_damaged", why=refusal.message)
            await asyncio.sleep(pause)
