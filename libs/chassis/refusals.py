"""Refusals of the chassis itself, and how a refusal crosses gRPC in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import asyncpg
import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from kernel.errors import Kind, Refusal

DETAILS_KEY = "grpc-status-details-bin"

CODES: dict[Kind, grpc.StatusCode] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    Kind.PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.UNKNOWN_OUTCOME: grpc.StatusCode.UNKNOWN,
}
KINDS = {code: kind for kind, code in CODES.items()}


class CredentialRefused(Refusal):
    """No credential, or one that is malformed, unknown, expired or revoked."""

    reason = "CREDENTIAL_REFUSED"
    kind = Kind.UNAUTHENTICATED

    def __init__(self, why: str) -> None:
        super().__init__(f"credential refused: {why}", why=why)


class CallerNotAllowed(Refusal):
    """The credential is good, but does not open this RPC."""

    reason = "CALLER_NOT_ALLOWED"
    kind = Kind.DENIED

    def __init__(self, method: str) -> None:
        super().__init__(f"the caller may not call {method}", method=method)


class DeadlineTooShort(Refusal):
    """Less time is left than an answer takes; nothing was done."""

    reason = "DEADLINE_TOO_SHORT"
    kind = Kind.UNAVAILABLE

    def __init__(self, left_ms: int, needed_ms: int) -> None:
        super().__init__(
            f"{left_ms} ms are left, an answer takes {needed_ms}",
            left_ms=left_ms,
            needed_ms=needed_ms,
        )


class TooManyCalls(Refusal):
    """As many calls are in flight as this process takes."""

    reason = "TOO_MANY_CALLS"
    kind = Kind.EXHAUSTED

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} calls are in flight already; try again", limit=limit)


class Unavailable(Refusal):
    """Something this service stands on is away. Nothing was done."""

    reason = "UNAVAILABLE"
    kind = Kind.UNAVAILABLE

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is away; try again", what=what)


class Draining(Refusal):
    """The process is stopping. What was answered is kept; the rest goes on elsewhere."""

    reason = "DRAINING"
    kind = Kind.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("the process is stopping; go on with another")


class RemoteRefusal(Refusal):
    """A refusal that another service answered, with its own reason and facts."""

    def __init__(self, reason: str, kind: Kind, facts: dict[str, str], message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.kind = kind
        self.facts = facts


def status_details(
    service: str, code: grpc.StatusCode, reason: str, message: str, facts: dict[str, str]
) -> bytes:
    """A google.rpc.Status with one ErrorInfo, as trailing metadata carries it."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain=f"{service}.tollgate", metadata=facts)
    packed = any_pb2.Any()
    packed.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=message, details=[packed])
    return bytes(status.SerializeToString())


def from_rpc_error(error: grpc.aio.AioRpcError) -> RemoteRefusal:
    """What a failed call to a peer means for us: never more certain than it is."""
    code, message = error.code(), error.details() or ""
    info = _find_info(error.trailing_metadata() or ())
    if info is not None:
        kind = KINDS.get(code, Kind.UNKNOWN_OUTCOME)
        return RemoteRefusal(info.reason, kind, dict(info.metadata), message)
    if code is grpc.StatusCode.UNAVAILABLE and _never_sent(message):
        return RemoteRefusal("UNAVAILABLE", Kind.UNAVAILABLE, {"what": "peer"}, message)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return RemoteRefusal("DEADLINE_EXCEEDED", Kind.UNKNOWN_OUTCOME, {}, message)
    if code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED):
        # gRPC's own answers to a message too large or a method that is not there: nothing ran.
        return RemoteRefusal("UNAVAILABLE", Kind.UNAVAILABLE, {"what": "peer"}, message)
    return RemoteRefusal("OUTCOME_UNKNOWN", Kind.UNKNOWN_OUTCOME, {"code": code.name}, message)


def from_database_error(error: BaseException) -> Refusal | None:
    """The refusal an asyncpg or socket error amounts to, or None where it is a bug.

    A connection lost while COMMIT was in flight is turned into OutcomeUnknown where it happens, in
    chassis.database; what arrives here failed before, so nothing was done.
    """
    if isinstance(error, _AWAY):
        return Unavailable("the database")
    return None


_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    ConnectionError,
)

# What gRPC core says where no byte of the request left this process.
_NOT_SENT = ("failed to connect", "connections to all backends failing", "DNS resolution failed")


def _never_sent(message: str) -> bool:
    return any(sign.lower() in message.lower() for sign in _NOT_SENT)


def _find_info(metadata: Iterable[Any]) -> error_details_pb2.ErrorInfo | None:
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info
    return None
