"""Jobs end when their program does, whatever becomes of the first cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.platform import Platform
from chassis.service import App, Job, ServiceDefinition, running
from chassis.settings import Settings

END_SECONDS_MAX = 15.0
AWAY = Settings.load({"TOLLGATE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})


async def test_a_job_whose_cancellation_was_lost_is_cancelled_again() -> None:
    cancellations = 0
    works = asyncio.Event()

    async def lose_the_first_cancellation() -> None:
        nonlocal cancellations
        while True:
            try:
                works.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1
                if cancellations > 1:
                    raise

    @asynccontextmanager
    async def open_app(platform: Platform) -> AsyncIterator[App]:
        yield App(bindings=[], jobs=[Job("stubborn", lose_the_first_cancellation)])

    definition = ServiceDefinition("stubborn", Settings, open_app, "stubborn.migrations")
    async with asyncio.timeout(END_SECONDS_MAX):
        async with running(definition, AWAY, serve=False):
            await works.wait()
    assert cancellations == 2
