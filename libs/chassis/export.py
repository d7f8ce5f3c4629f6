"""What is sent to an OpenTelemetry collector; imported only where one is named, for it is heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from chassis.metrics import PREFIX, Counters, Family, Gauges, Metrics, samples

EXPORT_MS = 15_000
SCOPE = "tollgate.chassis"


class Exporters:
    """The providers of one program; `tracer` makes spans that reach the collector."""

    def __init__(self, service: str, endpoint: str, metrics: Metrics) -> None:
        resource = Resource.create({"service.name": f"tollgate-{service}"})
        self._tracers = TracerProvider(resource=resource)
        self._tracers.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True))
        )
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=endpoint, insecure=True),
            export_interval_millis=EXPORT_MS,
        )
        self._meters = MeterProvider(resource=resource, metric_readers=[reader])
        _observe(self._meters, metrics)
        self.tracer: Tracer = self._tracers.get_tracer(SCOPE)

    def close(self) -> None:
        """Send what is buffered and stop."""
        self._tracers.shutdown()
        self._meters.shutdown()


def _observe(provider: MeterProvider, metrics: Metrics) -> None:
    # Histograms go out as their Prometheus series do, because an observable instrument takes
    # only sums and values, and recording into the SDK's own would cost each call its locks.
    meter = provider.get_meter(SCOPE)
    for family in metrics.families():
        name = PREFIX + family.name
        if isinstance(family, Gauges):
            meter.create_observable_gauge(name, [_reader(family, family.name)])
        elif isinstance(family, Counters):
            meter.create_observable_counter(name, [_reader(family, family.name)])
        else:
            for suffix in ("_bucket", "_sum", "_count"):
                meter.create_observable_counter(
                    name + suffix, [_reader(family, family.name + suffix)]
                )


def _reader(family: Family, sample: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(v, labels) for name, labels, v in samples(family) if name == sample]

    return read
