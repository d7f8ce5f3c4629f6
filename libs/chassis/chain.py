"""What happens to every call before and after its handler, whatever transport brought it.

Authenticate, apply the access rule, find the deadline and the tenant's time, count, run, and turn
every refusal into a status. The usual call takes no await here but the handler's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import grpc
import structlog

from chassis.auth import AUTHORIZATION, Authenticator, Principal
from chassis.call import Call, Environment, TenantMissing
from chassis.clocks import CLOCK_VERSION, ClockReading, TenantClocks
from chassis.metrics import Counter, Histogram, Metrics
from chassis.refusals import (
    CODES,
    CallerNotAllowed,
    DeadlineTooShort,
    TooManyCalls,
    from_database_error,
    status_details,
)
from chassis.telemetry import Telemetry
from kernel.errors import InvalidValue, Refusal

DEADLINE_SECONDS_DEFAULT = 10.0
DEADLINE_SECONDS_MAX = 60.0
STREAM_SECONDS_MAX = 660.0  # connections end by age before that
LEFT_SECONDS_MIN = 0.050  # with less than this left, the work would be for nobody
ANSWER_SECONDS = 0.020  # kept back to bring the answer home
CALLS_IN_FLIGHT_MAX = 4_000  # of one process: at 5,000 a second, nearly a second's worth
TRACEPARENT = "traceparent"

Metadata = Iterable[tuple[str, Any]]

log = structlog.get_logger("chassis.chain")


class Shape(Enum):
    """Which sides of a method are streams."""

    UNARY = "UNARY"
    SERVER_STREAM = "SERVER_STREAM"
    BIDI = "BIDI"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method. What it does not name is denied."""

    scopes: frozenset[str]
    services: frozenset[str]
    tenantless: bool

    def admits(self, principal: Principal) -> bool:
        if principal.service is not None:
            return principal.service in self.services
        return not self.scopes.isdisjoint(principal.scopes)


@dataclass(slots=True)
class Method:
    """One method of a bound servicer, with everything about it that can be known beforehand."""

    service: str
    name: str
    shape: Shape
    rule: Rule | None  # None: nobody may call it
    function: Callable[..., Any]
    request_class: Any
    durations: dict[str, Histogram] = field(default_factory=dict)  # by status code

    @property
    def path(self) -> str:
        return f"{self.service}/{self.name}"


class Failure(Exception):
    """A call's end that is not an answer: a status with its details."""

    def __init__(self, code: grpc.StatusCode, message: str, details: bytes) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class Chain:
    """The one chain of a service's calls."""

    def __init__(
        self,
        service: str,
        authenticator: Authenticator,
        clocks: TenantClocks,
        metrics: Metrics,
        telemetry: Telemetry,
        in_flight_max: int = CALLS_IN_FLIGHT_MAX,
    ) -> None:
        self.service = service
        self.in_flight = 0
        self.draining = False
        self._authenticator = authenticator
        self._clocks = clocks
        self._metrics = metrics
        self._telemetry = telemetry
        self._in_flight_max = in_flight_max
        self._refusals: dict[str, Counter] = {}
        metrics.rpc_in_flight.of().watch(lambda: self.in_flight)

    async def answer(
        self, method: Method, request: Any, metadata: Metadata, remaining: float | None
    ) -> Any:
        """Run a unary method; raises Failure, or CancelledError where the
        caller has gone. `remaining` is the caller's deadline in seconds from now, or None."""
        started = time.perf_counter()
        self.in_flight += 1
        try:
            if self.in_flight > self._in_flight_max:
                raise TooManyCalls(self._in_flight_max)
            call = self._admit(method, metadata, remaining) or await self._admit_after_asking(
                method, metadata, remaining
            )
            if self._telemetry.exporting:
                with self._telemetry.span(call) as traced:
                    response = await self._run(method, request, traced, remaining)
            elif remaining is not None and remaining <= DEADLINE_SECONDS_MAX:
                # The transport cancels us when the caller's own deadline is over.
                response = await method.function(request, call)
            else:
                response = await self._run(method, request, call, remaining)
        except asyncio.CancelledError:
            # The transport cancels for two reasons, and only the clock tells which it was.
            late = remaining is not None and time.perf_counter() - started >= remaining
            if late:
                self._metrics.rpc_deadline_exceeded_total.of().add()
            self._record(method, "DEADLINE_EXCEEDED" if late else "CANCELLED", started)
            raise
        except Exception as error:
            failure = self._fail(method, error)
            self._record(method, failure.code.name, started)
            raise failure from None
        finally:
            self.in_flight -= 1
        self._record(method, "OK", started)
        return response

    async def stream(
        self, method: Method, request: Any, metadata: Metadata, remaining: float | None
    ) -> AsyncIterator[Any]:
        """Run a method that answers a stream; raises as `answer` does, at any answer."""
        started = time.perf_counter()
        self.in_flight += 1
        code = "CANCELLED"
        try:
            if self.in_flight > self._in_flight_max:
                raise TooManyCalls(self._in_flight_max)
            call = self._admit(method, metadata, remaining) or await self._admit_after_asking(
                method, metadata, remaining
            )
            async with contextlib.aclosing(method.function(request, call)) as responses:
                async for response in responses:
                    yield response
            code = "OK"
        except Exception as error:
            failure = self._fail(method, error)
            code = failure.code.name
            raise failure from None
        finally:
            self.in_flight -= 1
            self._record(method, code, started)

    def fail(self, method: Method, refusal: Refusal) -> Failure:
        """The status of a refusal that the transport itself has to make."""
        return self._fail(method, refusal)

    async def _run(self, method: Method, request: Any, call: Call, remaining: float | None) -> Any:
        if remaining is not None and remaining <= DEADLINE_SECONDS_MAX:
            return await method.function(request, call)
        try:
            async with asyncio.timeout_at(call.deadline):
                return await method.function(request, call)
        except TimeoutError:
            raise _DeadlineExceeded from None

    def _admit(self, method: Method, metadata: Metadata, remaining: float | None) -> Call | None:
        """The call, or None where identity must be asked first. Raises refusals."""
        header, version, trace = _read_metadata(metadata)
        principal = self._authenticator.find(header)
        if principal is None:
            return None
        self._check_rule(method, principal)
        tenant_id, environment = principal.tenant_id, principal.environment
        if tenant_id is None or environment is Environment.LIVE:
            reading = _REAL_TIME
        else:
            found = self._clocks.find(tenant_id, version)
            if found is None:
                return None
            reading = found
        return self._make_call(method, principal, reading, remaining, trace)

    async def _admit_after_asking(
        self, method: Method, metadata: Metadata, remaining: float | None
    ) -> Call:
        header, version, trace = _read_metadata(metadata)
        asked_time = asyncio.get_running_loop().time()
        patience = DEADLINE_SECONDS_DEFAULT if remaining is None else remaining
        try:
            async with asyncio.timeout(min(patience, DEADLINE_SECONDS_DEFAULT)):
                principal = self._authenticator.find(header)
                if principal is None:
                    principal = await self._authenticator.learn(header)
                self._check_rule(method, principal)
                reading = _REAL_TIME
                live = principal.environment is Environment.LIVE
                if principal.tenant_id is not None and not live:
                    reading = await self._clocks.read(principal.tenant_id, version)
        except TimeoutError:
            raise DeadlineTooShort(0, round(LEFT_SECONDS_MIN * 1000)) from None
        if remaining is not None:
            remaining -= asyncio.get_running_loop().time() - asked_time
        return self._make_call(method, principal, reading, remaining, trace)

    @staticmethod
    def _check_rule(method: Method, principal: Principal) -> None:
        rule = method.rule
        if rule is None or not rule.admits(principal):
            raise CallerNotAllowed(method.path)
        if principal.tenant_id is None and not rule.tenantless:
            raise TenantMissing(method.path)

    @staticmethod
    def _make_call(
        method: Method,
        principal: Principal,
        reading: ClockReading,
        remaining: float | None,
        trace: str | None,
    ) -> Call:
        if method.shape is Shape.UNARY:
            seconds = DEADLINE_SECONDS_DEFAULT if remaining is None else remaining
            seconds = min(seconds, DEADLINE_SECONDS_MAX)
        else:
            seconds = STREAM_SECONDS_MAX if remaining is None else remaining
        if seconds < LEFT_SECONDS_MIN:
            raise DeadlineTooShort(round(seconds * 1000), round(LEFT_SECONDS_MIN * 1000))
        instant = reading.instant
        return Call(
            method.path,
            principal.tenant_id,
            principal.caller,
            principal.scopes,
            principal.environment or reading.environment,
            datetime.now(UTC) if instant is None else instant,
            reading.version,
            asyncio.get_running_loop().time() + seconds - ANSWER_SECONDS,
            trace,
        )

    def _fail(self, method: Method, error: Exception) -> Failure:
        refusal = error if isinstance(error, Refusal) else from_database_error(error)
        if refusal is not None:
            code, reason = CODES[refusal.kind], refusal.reason
            message, facts = refusal.message, refusal.facts
        elif isinstance(error, _DeadlineExceeded):
            code, reason, facts = grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", {}
            message = "no answer within the time there was"
            self._metrics.rpc_deadline_exceeded_total.of().add()
        else:
            incident = secrets.token_hex(8)
            code, reason, facts = grpc.StatusCode.INTERNAL, "INTERNAL", {"incident": incident}
            message = f"a fault of ours, incident {incident}"
            log.error("handler_failed", method=method.path, incident=incident, exc_info=error)
        self._count_refusal(reason)
        details = status_details(self.service, code, reason, message, facts)
        return Failure(code, message, details)

    def _count_refusal(self, reason: str) -> None:
        counter = self._refusals.get(reason)
        if counter is None:
            counter = self._refusals[reason] = self._metrics.rpc_refusals_total.of(reason)
        counter.add()

    def _record(self, method: Method, code: str, started: float) -> None:
        duration = method.durations.get(code)
        if duration is None:
            family = self._metrics.rpc_duration_seconds
            duration = method.durations[code] = family.of(self.service, method.path, code)
        duration.observe(time.perf_counter() - started)


class _DeadlineExceeded(Exception):
    """Our own limit was reached; the handler was cancelled where it stood."""


_REAL_TIME = ClockReading(Environment.LIVE, None, 0)


def _read_metadata(metadata: Metadata) -> tuple[str, int, str | None]:
    header, version, trace = "", 0, None
    for key, value in metadata:
        if key == AUTHORIZATION:
            header = value
        elif key == TRACEPARENT:
            trace = value
        elif key == CLOCK_VERSION:
            if not (value.isascii() and value.isdigit() and len(value) <= 18):
                raise InvalidValue(CLOCK_VERSION, f"{value!r} is not a version")
            version = int(value)
    return header, version, trace
