"""grpc.health.v1: whether this process should be sent calls, answered without a credential.

The protocol is two messages of one field each, so they are written and read here by hand: stubs for
the package `grpc.health` cannot live beside the package `grpc`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc

SERVICE = "grpc.health.v1.Health"
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
NOT_SERVING = b"\x08\x02"
SERVICE_UNKNOWN = b"\x08\x03"

# What an orchestrator asks by name. Only READY looks at what the process depends on: to start a
# process again because its database is away would help nobody.
LIVE = "live"  # the event loop answers
STARTUP = "startup"  # it is configured and open
READY = "ready"  # it should be sent calls


class Health:
    """Whether the process serves, and why not. It serves when no cause speaks against it."""

    def __init__(self) -> None:
        self._causes: dict[str, str] = {"start": "is starting"}
        self._services: set[str] = {"", READY}
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        return not self._causes

    @property
    def causes(self) -> tuple[str, ...]:
        """Each cause that speaks against serving, as "name: why"."""
        return tuple(f"{name}: {why}" for name, why in self._causes.items())

    def add_services(self, names: Iterable[str]) -> None:
        """Answer for these full service names as for the process."""
        self._services.update(names)

    def set(self, name: str, why_not: str | None) -> None:
        """Say that a cause speaks against serving, or (None) no longer does."""
        before = self.serving
        if why_not is None:
            self._causes.pop(name, None)
        else:
            self._causes[name] = why_not
        if before != self.serving:
            self._changed.set()
            self._changed = asyncio.Event()

    def handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The health service, for any server of this process."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )

    async def _check(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        status = self._status(_read_service(request))
        if status is SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return status

    async def _watch(
        self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        service = _read_service(request)
        while True:
            changed = self._changed
            yield self._status(service)
            await changed.wait()

    def _status(self, service: str) -> bytes:
        if service == LIVE:
            return SERVING
        if service == STARTUP:
            return NOT_SERVING if "start" in self._causes else SERVING
        if service not in self._services:
            return SERVICE_UNKNOWN
        return SERVING if self.serving else NOT_SERVING


def _read_service(request: bytes) -> str:
    """HealthCheckRequest{service}: field 1, a string shorter than 128 bytes; or nothing."""
    if len(request) >= 2 and request[0] == 0x0A and request[1] == len(request) - 2:
        return request[2:].decode(errors="replace")
    return ""
