"""The wallet's settings: those that every service has, and how long the journal is kept."""

from __future__ import annotations

from pydantic import Field, field_validator

from chassis.settings import Settings

RETENTION_DAYS_MIN = 35  # as long as a repeated event is known, and a month of reversals


class Config(Settings):
    """Read from TOLLGATE_… once; `lanes` is the number of concurrent money transactions."""

    # Days of the journal that are kept in reach; older ones are summed up and detached. 0: all.
    journal_retention_days: int = Field(default=0, ge=0, le=36_500)

    @field_validator("journal_retention_days", mode="after")
    @classmethod
    def _check_retention(cls, value: int) -> int:
        if 0 < value < RETENTION_DAYS_MIN:
            raise ValueError(f"must be 0 or at least {RETENTION_DAYS_MIN}")
        return value
