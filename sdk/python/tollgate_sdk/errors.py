"""What a call that was not answered with yes looks like to a caller."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2

# Nothing is known to have been done, or it was and the key will find it: safe to send again.
RETRYABLE = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.RESOURCE_EXHAUSTED}
)
_DETAILS_KEY = "grpc-status-details-bin"


class TollgateError(Exception):
    """A refusal or a failure. `reason` is stable; `facts` are what a caller can act on."""

    def __init__(
        self, code: grpc.StatusCode, reason: str, message: str, facts: dict[str, str]
    ) -> None:
        super().__init__(f"{reason}: {message}" if reason else message)
        self.code = code
        self.reason = reason
        self.message = message
        self.facts = facts

    @property
    def retryable(self) -> bool:
        """True where the same request with the same key may be sent again."""
        return self.code in RETRYABLE


def read_error(error: grpc.aio.AioRpcError) -> TollgateError:
    """Turn a gRPC error into a TollgateError, with google.rpc.ErrorInfo where there is one."""
    metadata = cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ())
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                found = error_details_pb2.ErrorInfo()
                if detail.Unpack(found):
                    return TollgateError(
                        error.code(), found.reason, status.message, dict(found.metadata)
                    )
    return TollgateError(error.code(), "", error.details() or error.code().name, {})
