"""What the producer and the gate need of a client: two stubs and a way to call them."""

from __future__ import annotations

from typing import Any, Protocol


class Calls(Protocol):
    """The part of `Tollgate` that everything built on it stands on."""

    @property
    def events(self) -> Any:
        """Stub of metering's EventService."""

    @property
    def gate(self) -> Any:
        """Stub of metering's GateService."""

    async def call(
        self,
        method: Any,
        request: Any,
        *,
        seconds: float = ...,
        retry: bool = ...,
        retry_seconds: float | None = ...,
    ) -> Any:
        """Call one RPC and answer its response, or raise TollgateError."""
