"""Concurrent callers who ask until they are answered, always by the same keys."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import grpc

from chassis.refusals import DETAILS_KEY
from proof.operations import Customer, Generator, Operation, read_reply
from tests.support.services import credential
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate.wallet.v1 import ledger_service_pb2_grpc as ledger_grpc

CALL_SECONDS_MAX = 4.0
PAUSE_SECONDS = 0.1
REPEAT_SIZE = 400
CREDENTIAL_SECONDS = 60.0

# Clients must find a service that came back at once.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]

_REQUESTS: dict[str, Callable[..., Any]] = {
    "grant": ledger.CreateGrantsRequest,
    "debit": ledger.PostDebitsRequest,
    "place": ledger.PlaceHoldsRequest,
    "capture": ledger.CaptureHoldsRequest,
    "void": ledger.VoidHoldsRequest,
}


class Way:
    """A channel over one line to one wallet process."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        grants = ledger_grpc.GrantServiceStub(channel)
        debits = ledger_grpc.DebitServiceStub(channel)
        holds = ledger_grpc.HoldServiceStub(channel)
        self.methods: dict[str, Any] = {
            "grant": grants.CreateGrants,
            "debit": debits.PostDebits,
            "place": holds.PlaceHolds,
            "capture": holds.CaptureHolds,
            "void": holds.VoidHolds,
        }


class Load:
    """One tenant's callers, and all that they asked and were answered."""

    def __init__(
        self, tenant_id: UUID, ways: Sequence[Way], customers: list[Customer], seed: int
    ) -> None:
        self.operations: dict[str, Operation] = {}
        self.divergent: list[str] = []
        self.failures: Counter[str] = Counter()
        self.faulty: list[str] = []  # answers that say "a fault of ours"
        self.replies = 0
        self._tenant_id = tenant_id
        self._ways = ways
        self._generator = Generator(seed, customers)
        self._metadata: Any = None
        self._metadata_time = 0.0

    async def run(self, callers: int, size_max: int, enough: Callable[[], bool]) -> None:
        """Ask from so many callers until it is enough; every call is asked until answered."""

        async def loop() -> None:
            while not enough():
                operations = self._generator.call(size_max, time.time())
                for operation in operations:
                    self.operations[operation.key] = operation
                if self._generator.twin():
                    await asyncio.gather(self._ask(operations), self._ask(operations))
                else:
                    await self._ask(operations)

        await asyncio.gather(*[loop() for _ in range(callers)])

    async def repeat(self, chosen: Sequence[Operation], callers: int) -> None:
        """Ask again what was answered; the answers are compared with the first ones."""
        by_kind: dict[str, list[Operation]] = {}
        for operation in chosen:
            by_kind.setdefault(operation.kind, []).append(operation)
        calls = iter(
            [
                operations[start : start + REPEAT_SIZE]
                for operations in by_kind.values()
                for start in range(0, len(operations), REPEAT_SIZE)
            ]
        )

        async def loop() -> None:
            for operations in calls:
                await self._ask(operations, again=True)

        await asyncio.gather(*[loop() for _ in range(callers)])

    async def _ask(self, operations: Sequence[Operation], *, again: bool = False) -> None:
        kind = operations[0].kind
        request = _REQUESTS[kind](items=[operation.item() for operation in operations])
        numbers = itertools.count(self._generator.pick_line(len(self._ways)))
        now = time.monotonic()
        for operation in operations:
            operation.sent = operation.sent or now
        while True:
            way = self._ways[next(numbers) % len(self._ways)]
            try:
                answer = await way.methods[kind](
                    request, metadata=self._credential(), timeout=CALL_SECONDS_MAX
                )
            except grpc.aio.AioRpcError as error:
                self._note_failure(error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._note_answer(operations, answer.outcomes, again)
            return

    def _note_answer(
        self, operations: Sequence[Operation], outcomes: Sequence[Any], again: bool
    ) -> None:
        now = time.monotonic()
        for operation, outcome in zip(operations, outcomes, strict=True):
            reply = read_reply(outcome)
            self.replies += 1
            operation.attempts += 1
            if operation.reply is None:
                operation.reply, operation.replied = reply, now
            elif operation.reply != reply:
                self.divergent.append(
                    f"{operation.key} was answered {operation.reply}, and then {reply}"
                )
            if again and not outcome.replayed:
                self.divergent.append(f"{operation.key} was done again when it was repeated")

    def _note_failure(self, error: grpc.aio.AioRpcError) -> None:
        ours = any(name == DETAILS_KEY for name, _ in error.trailing_metadata() or ())
        self.failures[error.code().name] += 1
        if error.code() is grpc.StatusCode.INTERNAL and ours:
            self.faulty.append(f"a wallet answered: {error.details()}")
        elif error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            raise AssertionError(error.details())

    def _credential(self) -> Any:
        now = time.monotonic()
        if self._metadata is None or now - self._metadata_time > CREDENTIAL_SECONDS:
            self._metadata = credential(self._tenant_id)
            self._metadata_time = now
        return self._metadata
