"""Metering's settings."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import Settings


class Config(Settings):
    """What every service is told, and how soon a lost batch of charges is taken up again."""

    recovery_seconds: float = Field(default=3.0, ge=0.0, le=3600.0)
