"""Expecting a refusal over gRPC: its status code, its reason, its facts."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from chassis.refusals import DETAILS_KEY


@dataclass
class Refused:
    """What came back; filled when the block has ended."""

    reason: str = ""
    domain: str = ""
    message: str = ""
    facts: dict[str, str] = field(default_factory=dict)


@contextmanager
def refuses(reason: str, code: grpc.StatusCode | None = None) -> Iterator[Refused]:
    """The block must end in an RPC error with this reason (and code)."""
    refused = Refused()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield refused
    error = caught.value
    info = _info(error)
    assert info is not None, f"no ErrorInfo in {error.code()}: {error.details()}"
    assert info.reason == reason, f"{info.reason}: {error.details()}"
    assert code is None or error.code() is code, error.code()
    refused.reason, refused.domain = info.reason, info.domain
    refused.message, refused.facts = error.details() or "", dict(info.metadata)


async def outcome(call: Awaitable[Any]) -> str:
    """ "OK", or the reason of the refusal: for races whose winner is anybody."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        info = _info(error)
        return info.reason if info is not None else error.code().name
    return "OK"


def _info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return info
    return None
