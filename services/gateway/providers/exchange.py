"""One request and its answer, over HTTP or by the contract, and what silence on the way means."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import grpc
import httpx

from gateway.domain.provider_account import ProviderAccount
from gateway.providers.plan import (
    Answer,
    Basic,
    Bearer,
    Call,
    Login,
    Phase,
    Reply,
    SecretHandle,
    Silence,
    Target,
)
from gateway.providers.registry import origin_of

ANSWER_BYTES_MAX = 4 * 1024 * 1024  # no provider's answer about one payment is larger
CONNECT_SECONDS = 5.0
KEEPALIVE_CONNECTIONS_MAX = 20


@dataclass(frozen=True, slots=True)
class Line:
    """A provider account as the driver needs it: where to call, what is allowed, which secrets."""

    account: ProviderAccount
    login: Login
    origins: frozenset[str]
    secrets: Mapping[SecretHandle, Callable[[], bytes]] = field(repr=False)
    target: Target | None = None  # where the provider serves the contract; None: over HTTP


class OriginNotAllowed(Exception):
    """A plan tried to call a host that its provider never named. This is a bug."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be sent, and sent again."""

    path: str
    content: bytes = field(repr=False)
    request: Any = field(repr=False, default=None)


class Exchange(Protocol):
    """Sends requests to one provider account."""

    def prepare(self, call: Call, line: Line) -> Prepared:
        """The request of a call; raises OriginNotAllowed."""

    async def send(self, prepared: Prepared, seconds: float) -> Reply:
        """Send it, and tell truthfully what was and what was not answered."""

    async def close(self) -> None: ...


class HttpExchange:
    """Requests over HTTP; nothing of the environment is believed, and no redirect followed."""

    def __init__(self, tls: ssl.SSLContext, proxy: str | None, connections_max: int) -> None:
        self._client = httpx.AsyncClient(
            verify=tls,
            proxy=proxy,
            trust_env=False,
            follow_redirects=False,
            http2=False,
            limits=httpx.Limits(
                max_connections=connections_max,
                max_keepalive_connections=KEEPALIVE_CONNECTIONS_MAX,
            ),
        )

    def prepare(self, call: Call, line: Line) -> Prepared:
        request = _request(call, line)
        return Prepared(request.url.path, request.content, request)

    async def send(self, prepared: Prepared, seconds: float) -> Reply:
        return await _exchanged(self._client, prepared.request, seconds)

    async def close(self) -> None:
        await self._client.aclose()


# What a status of the contract says, in the words of HTTP that plans know. Every other failure is
# silence: UNAVAILABLE after the request left says nothing about its effect.
_STATUSES: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 422,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.ABORTED: 409,
}
_RPC_OPTIONS = (
    ("grpc.enable_retries", 0),  # whether a request may be repeated is decided by the driver
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.use_local_subchannel_pool", 1),
)


class RpcExchange:
    """Unary calls of the contract; messages are bytes here, and the plans' to read."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channel: grpc.aio.Channel | None = None

    def prepare(self, call: Call, line: Line) -> Prepared:
        return Prepared(call.path, call.content or b"")

    async def send(self, prepared: Prepared, seconds: float) -> Reply:
        try:
            channel = self._open()
        except OSError as error:
            return Silence(Phase.BEFORE_SEND, f"its TLS files cannot be read: {error.strerror}")
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(CONNECT_SECONDS, seconds)):
                await channel.channel_ready()
        except TimeoutError:
            await self.close()  # with its back-off: the next request tries anew
            return Silence(Phase.BEFORE_SEND, "no connection")
        left = max(0.001, seconds - (asyncio.get_running_loop().time() - begun))
        # None as a serializer is bytes as they are.
        ask = channel.unary_unary(prepared.path, None, None)
        try:
            body = await ask(prepared.content, timeout=left)
        except grpc.aio.AioRpcError as error:
            status = _STATUSES.get(error.code())
            if status is None:
                return Silence(Phase.AFTER_SEND, error.code().name)
            return Answer(status)
        return Answer(200, {}, body)

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = _channel(self._target)
        return self._channel

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)


def _channel(target: Target) -> grpc.aio.Channel:
    options: list[tuple[str, Any]] = list(_RPC_OPTIONS)
    if not target.ca_file:
        return grpc.aio.insecure_channel(target.address, options=options)
    if target.server_name:
        options.append(("grpc.ssl_target_name_override", target.server_name))
    credentials = grpc.ssl_channel_credentials(
        Path(target.ca_file).read_bytes(),
        Path(target.key_file).read_bytes() if target.key_file else None,
        Path(target.certificate_file).read_bytes() if target.certificate_file else None,
    )
    return grpc.aio.secure_channel(target.address, credentials, options=options)


async def _exchanged(client: httpx.AsyncClient, request: httpx.Request, seconds: float) -> Reply:
    # The wall clock bounds the whole exchange: httpx's own limits are per read, and a peer that
    # drips one byte at a time would never meet one.
    sent = _Sent()
    request.extensions = {
        "timeout": httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)).as_dict(),
        "trace": sent.trace,
    }
    try:
        async with asyncio.timeout(seconds):
            response = await client.send(request, stream=True)
            try:
                body = await _read_body(response)
            finally:
                await response.aclose()
    except TimeoutError:
        return Silence(sent.phase, "no whole answer in time")
    except httpx.TransportError as error:
        never_left = isinstance(
            error,
            httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError,
        )
        phase = Phase.BEFORE_SEND if never_left and not sent.begun else sent.phase
        return Silence(phase, type(error).__name__)
    if body is None:
        return Silence(Phase.AFTER_SEND, "an answer larger than any documented one")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body)


class _Sent:
    """Watches whether a request began to leave."""

    def __init__(self) -> None:
        self.begun = False

    async def trace(self, event: str, _: object) -> None:
        if event.endswith("send_request_headers.started"):
            self.begun = True

    @property
    def phase(self) -> Phase:
        return Phase.AFTER_SEND if self.begun else Phase.BEFORE_SEND


async def _read_body(response: httpx.Response) -> bytes | None:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            return None
    return bytes(body)


def _request(call: Call, line: Line) -> httpx.Request:
    url = _url(call.path, line)
    headers = {"accept": "application/json", "user-agent": "tollgate", **call.headers}
    if call.key:
        headers[call.key_header] = call.key
    for name, handle in call.secret_headers.items():
        headers[name] = line.secrets[handle]().decode()
    if call.auth is not None:
        headers["authorization"] = _authorization(call.auth, line)
    return httpx.Request(
        call.method,
        url,
        params=dict(call.query) or None,
        headers=headers,
        json=call.json,
        data=dict(call.form) if call.form is not None else None,
        content=call.content,
    )


def _url(path: str, line: Line) -> str:
    if "://" in path:
        url = path
    else:
        parts = urlsplit(line.login.endpoint)
        url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + path, "", ""))
    if origin_of(url) not in line.origins:
        raise OriginNotAllowed(f"{line.account.provider}: {origin_of(url) or 'no origin'}")
    return url


def _authorization(auth: Bearer | Basic, line: Line) -> str:
    secret = line.secrets[auth.secret]()
    if isinstance(auth, Bearer):
        return f"Bearer {secret.decode()}"
    login = secret if b":" in secret else secret + b":"
    return f"Basic {base64.b64encode(login).decode()}"
