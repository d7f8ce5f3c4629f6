"""Settings of invoicing beside those that every service has."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import Settings


class Config(Settings):
    """Read from TOLLGATE_<FIELD>."""

    # Batches of 50 customers billed at once in one process: while one waits for metering or the
    # database, another is computed.
    billing_parallelism: int = Field(default=2, ge=1, le=16)
    # How long after a period's end the service bills it by itself, so that late events count.
    grace_seconds: int = Field(default=3_600, ge=0, le=864_000)
