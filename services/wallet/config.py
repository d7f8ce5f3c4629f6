"""The wallet's settings: those that every service has."""

from __future__ import annotations

from chassis.settings import Settings


class Config(Settings):
    """Read from TOLLGATE_… once; `lanes` is the number of concurrent money transactions."""
