"""How the sandbox refuses, fails and answers: what every one of its requests has in common."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.sandbox.behaviour import Faults

HANG_SECONDS = 120.0  # longer than any caller waits


class Refused(Exception):
    """A request that the sandbox does not take."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


async def fail_before(request: web.Request, faults: Faults) -> None:
    """Commit the faults that keep a request from having an effect."""
    if "http_429" in faults:
        raise Refused(429, "too_many_requests", "slow down")
    if "http_409_in_flight" in faults:
        raise Refused(409, "key_in_use", "a request with this key is under way")
    if "http_500_before" in faults:
        raise Refused(500, "internal", "an error of the sandbox")
    if "reset_before" in faults:
        _cut(request)
    if "hang_before" in faults:
        await _hang(request)


async def reply(
    request: web.Request,
    status: int,
    body: bytes,
    faults: Faults,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer, or commit the faults that keep an answer from arriving."""
    if "http_500_after" in faults:
        raise Refused(500, "internal", "an error of the sandbox, after the fact")
    if "hang_after" in faults:
        await _hang(request)
    if "reset_before_reply" in faults:
        _cut(request)
    if "truncated_body" in faults:
        body = body[: len(body) // 2]
    return web.Response(
        status=status, body=body, content_type="application/json", headers=dict(headers or {})
    )


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise Refused(500, "cut", "the connection is cut")


async def _hang(request: web.Request) -> None:
    """Keep the caller waiting until it goes away."""
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        if request.transport is None or request.transport.is_closing():
            break
        await asyncio.sleep(0.05)
    raise Refused(500, "hung", "nobody waits any more")


@web.middleware
async def answer_refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turn a refusal into its answer."""
    try:
        response: web.StreamResponse = await handler(request)
    except Refused as refused:
        fault = {"error": {"code": refused.code, "message": str(refused)}}
        # Nobody is made to wait: a sandbox's limits are there to be met in tests.
        headers = {"Retry-After": "0"} if refused.status in (409, 429) else {}
        return web.json_response(fault, status=refused.status, headers=headers)
    return response


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as an object; raises Refused."""
    try:
        content = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise Refused(400, "malformed", "the body is not JSON") from None
    if not isinstance(content, dict):
        raise Refused(400, "malformed", "the body is not an object")
    return content


def switched_off(request: web.Request) -> set[str]:
    """What the caller's address goes without."""
    return set(request.query.get("without", "").split(","))
