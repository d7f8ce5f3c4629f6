"""Recovery: batches that were committed and never settled are charged again, by the same keys."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from chassis.database import Database
from kernel.errors import Kind, Refusal
from metering.charging.operations import WalletRefusedCall
from metering.settlement.operations import Settlement

STALE_SECONDS = 3.0  # a batch older than that has lost whoever was charging it, or the wallet
POLL_SECONDS = 0.5
FAULT_SECONDS = 10.0  # after a batch that the wallet refuses as a whole
BATCHES_MAX = 100  # in one round

log = structlog.get_logger("metering.recovery")


class Recovery:
    """Sends stale batches again until they are settled."""

    def __init__(
        self, database: Database, settlement: Settlement, stale_seconds: float = STALE_SECONDS
    ) -> None:
        self._database = database
        self._settlement = settlement
        self._stale_seconds = stale_seconds

    async def run(self) -> None:
        """Until cancelled. A database that is away is waited for."""
        while True:
            pause = POLL_SECONDS
            try:
                for tenant_id, batch_id in await self._list_stale():
                    if not await self._resend(tenant_id, batch_id):
                        pause = FAULT_SECONDS
            except Refusal as refusal:
                if refusal.kind not in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME):
                    raise
                log.warning("recovery_waits", why=refusal.message)
            await asyncio.sleep(pause)

    async def _resend(self, tenant_id: UUID, batch_id: UUID) -> bool:
        """Whether the wallet took the batch as a call; what it does not take needs a person."""
        try:
            await self._settlement.resend(tenant_id, batch_id)
        except WalletRefusedCall as error:
            log.error("charges_refused", batch=str(batch_id), why=error.message)
            return False
        return True

    async def _list_stale(self) -> list[tuple[UUID, UUID]]:
        async with self._database.unscoped() as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, batch_id FROM list_stale_batches($1, $2)",
                self._stale_seconds,
                BATCHES_MAX,
            )
        return [(row["tenant_id"], row["batch_id"]) for row in rows]
