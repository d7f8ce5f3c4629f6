"""One call of the contract: a path, and a message as bytes."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from gateway.providers.plan import CALL_SECONDS, Asked, Call, ask
from gateway.providers.remote.wire import parse

SERVICE = "tollgate.gateway.provider.v1.ProviderService"

R = TypeVar("R", bound=Message)


def to(
    method: str, request: Message, *, seconds: float = CALL_SECONDS, repeatable: bool = True
) -> Call:
    """A call; `repeatable` where it has no effect, or a key that makes it safe."""
    return Call(
        "RPC",
        f"/{SERVICE}/{method}",
        content=request.SerializeToString(deterministic=True),
        timeout_seconds=seconds,
        safe_to_repeat=repeatable,
    )


def ask_for(
    method: str, request: Message, answer: type[R], *, seconds: float = CALL_SECONDS
) -> Asked[R]:
    """Ask for something that has no effect; its failure where it was not to be had."""
    reply = yield from ask(to(method, request, seconds=seconds))
    return parse(reply, answer)
