"""Asks about every operation that is due, and what providers offer that others serve."""

from __future__ import annotations

import asyncio

import structlog

from gateway.collection.operations import Collector
from gateway.domain.outcome import Outcome
from gateway.providers.lines import Lines
from gateway.providers.remote import offered, provider_of

LEARN_PAUSE_SECONDS = 2.0  # while a provider has not answered yet
LEARN_AGAIN_SECONDS = 300.0  # a provider may be replaced by one that offers more
OBSERVE_EVERY = 10  # rounds between two looks at how much is unknown


async def settle(collector: Collector, pause_seconds: float) -> None:
    """Sweep leases that ran out and ask what became of them; also what is merely not over yet."""
    rounds = 0
    while True:
        now = collector.clock.now()
        if rounds % OBSERVE_EVERY == 0:
            await collector.observe_unknown(now)
        rounds += 1
        if not await collector.settle_due(now):
            await asyncio.sleep(pause_seconds)


async def learn(collector: Collector, lines: Lines) -> None:
    """Ask each provider that serves the contract what it offers, until it answers, and again."""
    log = structlog.get_logger("gateway.collection")
    registry = lines.registry
    while registry.targets:
        for name, target in registry.targets.items():
            told = await collector.consult(offered(), lines.to_provider(name))
            if isinstance(told, Outcome):
                log.warning("provider_not_answering", provider=name, why=told.detail)
            else:
                registry.learn(provider_of(name, target, told))
        known = all(registry.knows(name) for name in registry.targets)
        await asyncio.sleep(LEARN_AGAIN_SECONDS if known else LEARN_PAUSE_SECONDS)
