"""What can be seen from outside: metrics, health, traces, and logs without secrets in them."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator

import grpc
import pytest
import structlog
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from chassis.auth import make_api_key
from chassis.call import Environment
from chassis.metrics import SERIES_MAX, Metrics, render_text
from chassis.telemetry import configure_logs, scrub
from tests.chassis.conftest import Echo
from tests.conftest import MakeDatabase
from tests.support.echo import EchoStub, definition, text
from tests.support.probe import probe_database
from tests.support.services import Services, credential
from tests.support.waiting import until

OPERATOR = credential(uuid.UUID(int=1))
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_metrics_are_exposed_in_prometheus_text(
    fresh_database: MakeDatabase, services: Services
) -> None:
    database = await probe_database(fresh_database)
    running = await services.run(definition(), database, metrics_listen="127.0.0.1:0")
    stub = EchoStub(await services.channel(running))
    for _ in range(3):
        await stub.Echo(text("hi"), metadata=OPERATOR)
    head, body = await _get(running.metrics_address, "/metrics")
    assert head.startswith("HTTP/1.1 200 OK")
    assert re.search(r'^tollgate_rpc_duration_seconds_count\{.*code="OK"\} 3$', body, re.M)
    assert re.search(r'^tollgate_rpc_duration_seconds_bucket\{.*le="\+Inf"\} 3$', body, re.M)
    head, _ = await _get(running.metrics_address, "/etc/passwd")
    assert head.startswith("HTTP/1.1 404")


async def _get(address: str, path: str) -> tuple[str, str]:
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return head, body


def test_buckets_are_cumulative_and_labels_are_escaped() -> None:
    metrics = Metrics()
    for size in (1, 2, 3, 10_000):
        metrics.lane_batch_size.of('a"b\\').observe(size)
    lines = render_text(metrics).splitlines()
    series = [line for line in lines if line.startswith("tollgate_lane_batch_size_bucket")]
    counts = [int(line.rpartition(" ")[2]) for line in series]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 4)
    assert all(r'lane="a\"b\\"' in line for line in series)


def test_a_large_count_is_exposed_to_the_last_digit() -> None:
    metrics = Metrics()
    metrics.events_accepted_total.of().add(123_456_789)
    assert "tollgate_events_accepted_total 123456789" in render_text(metrics).splitlines()


def test_a_label_that_is_not_bounded_is_caught() -> None:
    metrics = Metrics()
    for number in range(SERIES_MAX):
        metrics.debits_total.of(f"wallet {number}").add()
    with pytest.raises(ValueError, match="not bounded"):
        metrics.debits_total.of("one more")
    with pytest.raises(ValueError, match="takes the labels"):
        metrics.debits_total.of()


def test_every_metric_has_a_name_of_its_own_equal_to_its_attribute() -> None:
    names = {attribute: family.name for attribute, family in vars(Metrics()).items()}
    assert all(attribute == name for attribute, name in names.items())
    assert len(names) > 30


async def test_health_is_answered_without_a_credential_and_watched(echo: Echo) -> None:
    async with grpc.aio.insecure_channel(echo.running.address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"
        name = b"tollgate.echo.v1.EchoService"
        assert await check(b"\x0a" + bytes([len(name)]) + name) == b"\x08\x01"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(b"\x0a\x04nope")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert await watch.read() == b"\x08\x01"
        echo.running.health.set("test", "because of the test")
        assert await watch.read() == b"\x08\x02"
        echo.running.health.set("test", None)
        assert await watch.read() == b"\x08\x01"
        watch.cancel()


class Collector:
    """An OpenTelemetry collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.metrics: list[metrics_service_pb2.ExportMetricsServiceRequest] = []
        self.server = grpc.aio.server()
        prefix = "opentelemetry.proto.collector"
        for service, request, kept in (
            ("trace.v1.TraceService", trace_service_pb2.ExportTraceServiceRequest, self.spans),
            (
                "metrics.v1.MetricsService",
                metrics_service_pb2.ExportMetricsServiceRequest,
                self.metrics,
            ),
        ):
            self.server.add_generic_rpc_handlers((self._handler(prefix, service, request, kept),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    @staticmethod
    def _handler(prefix: str, service: str, request: type, kept: list) -> grpc.GenericRpcHandler:
        async def export(message: object, context: object) -> bytes:
            kept.append(message)
            return b""

        handler = grpc.unary_unary_rpc_method_handler(export, request.FromString)
        return grpc.method_handlers_generic_handler(f"{prefix}.{service}", {"Export": handler})


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    await made.server.start()
    yield made
    await made.server.stop(0)


async def test_a_call_becomes_a_span_of_its_callers_trace(
    fresh_database: MakeDatabase, services: Services, collector: Collector
) -> None:
    database = await probe_database(fresh_database)
    endpoint = f"http://127.0.0.1:{collector.port}"
    running = await services.run(definition(), database, otlp_endpoint=endpoint)
    stub = EchoStub(await services.channel(running))
    parent = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
    answer = await stub.Describe(text(""), metadata=(*OPERATOR, ("traceparent", parent)))
    ours = answer.value.split(" ")[-1]
    assert ours.startswith(f"00-{TRACE_ID}-")
    assert ours != parent
    await asyncio.to_thread(running.platform.telemetry.close)
    await until(lambda: collector.spans and collector.metrics, what="the export")
    span = collector.spans[0].resource_spans[0].scope_spans[0].spans[0]
    assert span.trace_id.hex() == TRACE_ID
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert span.name == "tollgate.echo.v1.EchoService/Describe"
    exported = collector.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
    assert "tollgate_rpc_duration_seconds_count" in {metric.name for metric in exported}


async def test_without_a_collector_the_callers_trace_just_travels_on(echo: Echo) -> None:
    parent = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
    answer = await echo.stub.Describe(text(""), metadata=(*OPERATOR, ("traceparent", parent)))
    assert answer.value.endswith(parent)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("card 4242 4242 4242 4242 was declined", "card [card] was declined"),
        ("4111111111111111", "[card]"),
        ("order 4111111111111112 is no card", "order 4111111111111112 is no card"),
        ("at 1767225600000000", "at 1767225600000000"),
        ("authorization: Bearer eyJhbGciOi.J9.abc", "authorization: [credential]"),
    ],
)
def test_secrets_and_cards_do_not_reach_a_log(said: str, kept: str) -> None:
    assert scrub(said) == kept


def test_a_log_line_is_json_scrubbed_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics()
    configure_logs("probe", "info", metrics)
    key = make_api_key(Environment.LIVE, uuid.UUID(int=3))
    try:
        log = structlog.get_logger("test")
        log.info("key_seen", key=key, card=("4242424242424242",), count=3)
        log.debug("not_at_this_level")
    finally:
        structlog.reset_defaults()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert line["message"] == "key_seen"
    assert (line["service"], line["level"], line["count"]) == ("probe", "info", 3)
    assert key not in lines[0]
    assert "4242424242424242" not in lines[0]
    assert metrics.scrubbed_total.of("credential").value == 1
    assert metrics.scrubbed_total.of("card").value == 1
