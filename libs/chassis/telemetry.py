"""Traces, logs and the export of metrics. Nothing here costs a call anything until it is exported.

Trace context (W3C `traceparent`) always travels on, through calls and messages; spans are made only
where TOLLGATE_OTLP_ENDPOINT names a collector.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import structlog
from opentelemetry import trace as otel
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis.call import Call
from chassis.metrics import Metrics

TRACEPARENT = "traceparent"

CARD = re.compile(r"(?<![0-9A-Za-z])(?:\d[ -]?){12,18}\d(?![0-9A-Za-z])")
API_KEY = re.compile(r"tg_(?:live|test)_[0-9A-Za-z_-]{8,}")
BEARER = re.compile(r"(?i)bearer [0-9A-Za-z._~+/-]{8,}=*")


class Telemetry:
    """The tracer of one program, and the exporters that must be closed with it."""

    def __init__(self, service: str, endpoint: str, metrics: Metrics) -> None:
        self.exporting = bool(endpoint)
        if endpoint:
            # The SDK and its exporters take half a second to import, so only where they are used.
            from chassis.export import Exporters

            self._exporters = Exporters(service, endpoint, metrics)

    @contextmanager
    def span(self, call: Call) -> Iterator[Call]:
        """A server span around a call, as a child of its caller's; the call then carries ours."""
        carrier = {TRACEPARENT: call.trace} if call.trace is not None else {}
        parent = _PROPAGATOR.extract(carrier)
        attributes = {"rpc.system": "grpc", "rpc.method": call.method, "caller": call.caller}
        with self._exporters.tracer.start_as_current_span(
            call.method, context=parent, kind=otel.SpanKind.SERVER, attributes=attributes
        ):
            yield replace(call, trace=current_trace())

    def close(self) -> None:
        """Send what is buffered and stop."""
        if self.exporting:
            self._exporters.close()


def current_trace() -> str | None:
    """The traceparent of the span that is running, to be sent with calls and messages."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(TRACEPARENT)


_PROPAGATOR = TraceContextTextMapPropagator()


def configure_logs(service: str, level: str, metrics: Metrics | None = None) -> None:
    """JSON lines on standard output: time, level, service, message and what else is given."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _Scrubber(service, metrics),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )


class _Scrubber:
    """Names the service and takes card-like numbers and credentials out of every text."""

    def __init__(self, service: str, metrics: Metrics | None) -> None:
        self._service = service
        self._metrics = metrics

    def __call__(
        self, logger: object, name: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = scrub(value, self._metrics)
            elif not isinstance(value, int | float | bool | None):
                event[key] = scrub(str(value), self._metrics)
        event["service"] = self._service
        return event


def scrub(text: str, metrics: Metrics | None = None) -> str:
    """The text without card numbers and credentials; what was taken out is counted by kind."""
    for kind, pattern in (("credential", API_KEY), ("credential", BEARER)):
        text, count = pattern.subn(f"[{kind}]", text)
        _count(metrics, kind, count)

    def hide(match: re.Match[str]) -> str:
        if not _is_card(match[0]):
            return match[0]
        _count(metrics, "card", 1)
        return "[card]"

    return CARD.sub(hide, text)


def _is_card(text: str) -> bool:
    """The Luhn check (ISO/IEC 7812-1 annex B), which nine of ten other numbers fail."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[0::2]) + sum(doubled)) % 10 == 0


def _count(metrics: Metrics | None, kind: str, count: int) -> None:
    if metrics is not None and count:
        metrics.scrubbed_total.of(kind).add(count)
