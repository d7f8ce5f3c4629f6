"""Applies notifications that are kept, for as long as the process works."""

from __future__ import annotations

import asyncio

from gateway.notifications.operations import NotificationOperations


async def apply_kept(notifications: NotificationOperations, pause_seconds: float) -> None:
    """Apply what is due, oldest first."""
    while True:
        if not await notifications.apply_due(notifications.clock.now()):
            await asyncio.sleep(pause_seconds)
