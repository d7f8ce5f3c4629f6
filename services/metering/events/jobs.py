"""Makes the partitions of the days to come."""

from __future__ import annotations

import asyncio

import structlog

from chassis.database import Database, DatabaseUnavailable

DAYS_AHEAD = 7  # so that a week without this job does no harm
HOUR_SECONDS = 3_600.0
AWAY_SECONDS = 5.0

log = structlog.get_logger("metering.partitions")


class Partitions:
    """Looks ahead once an hour."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Until cancelled. A database that is away is waited for."""
        while True:
            try:
                async with self._database.unscoped() as connection:
                    made = await connection.fetchval("SELECT make_event_partitions($1)", DAYS_AHEAD)
            except DatabaseUnavailable as error:
                log.warning("partitions_wait", why=error.message)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if made:
                log.info("partitions_made", count=made)
            await asyncio.sleep(HOUR_SECONDS)
