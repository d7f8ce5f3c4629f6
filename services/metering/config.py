"""Metering's settings."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import Settings


class Config(Settings):
    """What every service is told, and how soon a lost batch of charges is taken up again."""

    recovery_seconds: float = Field(default=3.0, ge=0.0, le=3600.0)
    # Days of receipt for which events stay in the database: the longest billing period whose price
    # looks at single events, and the 36 days in which its events may still come or be corrected.
    event_retention_days: int = Field(default=430, ge=70, le=36_500)
    # Where older days are archived: a folder, or a URI such as s3://bucket/prefix. Empty: all days
    # stay in the database.
    archive_location: str = ""
