"""The one driver: plays a plan over HTTP and tells it truthfully what was and was not answered.

Whether a request may have had an effect is decided here and nowhere else. A failure before the
first byte left is told as such; every other failure is silence, whatever the exception's name.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx

from gateway.domain.outcome import Outcome
from gateway.domain.provider_account import ProviderAccount
from gateway.providers.plan import (
    Answer,
    Basic,
    Bearer,
    Call,
    Login,
    Note,
    Phase,
    Plan,
    Reply,
    SecretHandle,
    Silence,
)
from gateway.providers.registry import origin_of

ANSWER_BYTES_MAX = 4 * 1024 * 1024  # no provider's answer about one payment is larger
CONNECT_SECONDS = 5.0
CONNECT_REPEATS = 2
CONNECT_PAUSE_SECONDS = 0.2
BUSY_WAITS_SECONDS = (1.0, 2.0, 4.0)  # a key in use is free again when its request is done
RETRY_AFTER_SECONDS_MAX = 30.0
ACCOUNTS_MAX = 256  # clients kept open; the one unused longest makes room


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one driver. Rates and concurrency are per provider account."""

    plan_seconds: float = 90.0  # below the lease, so that two never play one operation
    call_seconds_max: float = 30.0
    concurrent_calls: int = 20
    calls_per_second: float = 50.0
    burst: int = 100


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What is kept of one call: digests, never bodies."""

    method: str
    path: str
    request_digest: str
    duration_ms: int
    status: int = 0  # 0: silence
    answer_digest: str = ""
    provider_request_id: str = ""
    silence: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """A plan's outcome, and the calls it took."""

    outcome: Outcome
    calls: tuple[CallRecord, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A provider account as the driver needs it: where to call, what is allowed, which secrets."""

    account: ProviderAccount
    login: Login
    origins: frozenset[str]
    secrets: Mapping[SecretHandle, Callable[[], bytes]] = field(repr=False)


class OriginNotAllowed(Exception):
    """A plan tried to call a host that its provider never named. This is a bug."""


KeepNote = Callable[[Note], Awaitable[None]]


class Driver:
    """Plays plans. Owns one HTTP client per provider account; close it when done."""

    def __init__(
        self, limits: Limits | None = None, *, proxy: str | None = None, ca_file: str | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._proxy = proxy or None
        self._tls = ssl.create_default_context(cafile=ca_file or None)
        self._lanes: dict[UUID, _Lane] = {}

    async def close(self) -> None:
        lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            await lane.client.aclose()

    async def play(self, plan: Plan, line: Line, keep_note: KeepNote) -> Played:
        """Play a plan to its end. `keep_note` commits a note before the next call leaves."""
        deadline = time.monotonic() + self.limits.plan_seconds
        lane = await self._lane(line)
        records: list[CallRecord] = []
        send: Reply | None = None
        while True:
            try:
                step = plan.send(send)
            except StopIteration as end:
                return Played(end.value, tuple(records))
            if isinstance(step, Note):
                await keep_note(step)
                send = None
            else:
                send = await self._ask(step, line, lane, deadline, records)

    async def _lane(self, line: Line) -> _Lane:
        account_id = line.account.provider_account_id
        lane = self._lanes.pop(account_id, None)
        if lane is None:
            lane = _Lane(self._client(), self.limits)
        self._lanes[account_id] = lane  # last in order: used most lately
        if len(self._lanes) > ACCOUNTS_MAX:
            unused = next((key for key, each in self._lanes.items() if not each.busy), None)
            if unused is not None and unused != account_id:
                await self._lanes.pop(unused).client.aclose()
        return lane

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._tls,
            proxy=self._proxy,
            trust_env=False,
            follow_redirects=False,
            http2=False,
            limits=httpx.Limits(
                max_connections=self.limits.concurrent_calls, max_keepalive_connections=20
            ),
        )

    async def _ask(
        self, call: Call, line: Line, lane: _Lane, deadline: float, records: list[CallRecord]
    ) -> Reply:
        """One call with the repeats that cannot have an effect of their own."""
        request = _request(call, line)
        connects = busy = 0
        in_use = False  # a 409 said that a request with this key is under way
        while True:
            reply = await self._once(call, request, lane, deadline, records)
            if isinstance(reply, Silence):
                if reply.phase is Phase.AFTER_SEND:
                    return reply
                if connects < CONNECT_REPEATS and await _pause(CONNECT_PAUSE_SECONDS, deadline):
                    connects += 1
                    continue
                # What an earlier request with this key came to is still open.
                return Silence(Phase.AFTER_SEND, reply.cause) if in_use else reply
            is_busy = reply.status in call.busy_statuses and call.safe_to_repeat
            if not is_busy and reply.status != 429:
                return reply
            in_use = in_use or is_busy
            wait = _retry_after(reply, BUSY_WAITS_SECONDS[min(busy, len(BUSY_WAITS_SECONDS) - 1)])
            busy += 1
            if busy > len(BUSY_WAITS_SECONDS) or not await _pause(wait, deadline):
                return Silence(Phase.AFTER_SEND, "its key is in use") if in_use else reply

    async def _once(
        self,
        call: Call,
        request: httpx.Request,
        lane: _Lane,
        deadline: float,
        records: list[CallRecord],
    ) -> Reply:
        left = deadline - time.monotonic()
        if left <= 0 or not await lane.enter(left):
            return Silence(Phase.BEFORE_SEND, "the time of this plan is up")
        begun = time.monotonic()
        seconds = min(call.timeout_seconds, self.limits.call_seconds_max, deadline - begun)
        try:
            reply = await _send(lane.client, request, max(seconds, 0.001))
        finally:
            lane.leave()
        records.append(_record(call, request, reply, time.monotonic() - begun))
        return reply


class _Lane:
    """One provider account's client, concurrency limit and token bucket."""

    def __init__(self, client: httpx.AsyncClient, limits: Limits) -> None:
        self.client = client
        self._slots = asyncio.Semaphore(limits.concurrent_calls)
        self._rate, self._burst = limits.calls_per_second, float(limits.burst)
        self._tokens, self._filled = self._burst, time.monotonic()
        self.busy = 0

    async def enter(self, seconds: float) -> bool:
        """Wait for a slot and a token; False where `seconds` pass first."""
        self.busy += 1
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
                try:
                    await self._take_token()
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            self.busy -= 1
            return False
        except BaseException:
            self.busy -= 1
            raise
        return True

    def leave(self) -> None:
        self.busy -= 1
        self._slots.release()

    async def _take_token(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        self._tokens -= 1
        if self._tokens < 0:
            # The debt is this caller's own wait; those behind it wait longer.
            await asyncio.sleep(-self._tokens / self._rate)


async def _send(client: httpx.AsyncClient, request: httpx.Request, seconds: float) -> Reply:
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


def _record(call: Call, request: httpx.Request, reply: Reply, seconds: float) -> CallRecord:
    digest = hashlib.sha256(request.content).hexdigest()
    duration_ms = int(seconds * 1000)
    if isinstance(reply, Silence):
        silence = f"{reply.phase.value}: {reply.cause}"
        return CallRecord(call.method, request.url.path, digest, duration_ms, silence=silence)
    return CallRecord(
        call.method,
        request.url.path,
        digest,
        duration_ms,
        status=reply.status,
        answer_digest=hashlib.sha256(reply.body).hexdigest(),
        provider_request_id=reply.headers.get("request-id", "")[:128],
    )


def _retry_after(answer: Answer, default: float) -> float:
    stated = answer.headers.get("retry-after", "")
    if stated.isascii() and stated.isdigit():
        return min(float(stated), RETRY_AFTER_SECONDS_MAX)
    return default


async def _pause(seconds: float, deadline: float) -> bool:
    """Wait, unless the plan's time would be up before the wait is."""
    if time.monotonic() + seconds >= deadline:
        return False
    await asyncio.sleep(seconds)
    return True
