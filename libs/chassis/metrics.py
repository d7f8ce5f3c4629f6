"""Metrics: one typed catalogue of plain counters, read by exporters when they ask.

Recording is an addition on a Python object, so that it can stand on a hot path. Labels are bounded:
never a customer, wallet or event id.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

PREFIX = "tollgate_"
SERIES_MAX = 2_000  # of one metric: more means that a label is not bounded

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


class Counter:
    """Only rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        self.value += amount


class Gauge:
    """Goes up and down; or is asked for when somebody looks, through `watch`."""

    __slots__ = ("_read", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        self.value = value

    def add(self, amount: float = 1) -> None:
        self.value += amount

    def watch(self, read: Callable[[], float]) -> None:
        self._read = read

    def read(self) -> float:
        return self._read() if self._read is not None else self.value


class Histogram:
    """Counts observations by size; the last bucket takes all that is larger than the limits."""

    __slots__ = ("counts", "limits", "sum")

    def __init__(self, limits: tuple[float, ...]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.limits, value)] += 1
        self.sum += value


@dataclass(slots=True)
class _Family:
    name: str
    help: str
    labels: tuple[str, ...] = ()

    def _key(self, values: tuple[str, ...], series: int) -> tuple[str, ...]:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, not {values}")
        if series >= SERIES_MAX:
            raise ValueError(f"{self.name} has {SERIES_MAX} series: a label is not bounded")
        return values


@dataclass(slots=True)
class Counters(_Family):
    series: dict[tuple[str, ...], Counter] = field(default_factory=dict)

    def of(self, *values: str) -> Counter:
        """The counter for these label values, in the order of `labels`."""
        found = self.series.get(values)
        if found is None:
            found = self.series[self._key(values, len(self.series))] = Counter()
        return found


@dataclass(slots=True)
class Gauges(_Family):
    series: dict[tuple[str, ...], Gauge] = field(default_factory=dict)

    def of(self, *values: str) -> Gauge:
        """The gauge for these label values, in the order of `labels`."""
        found = self.series.get(values)
        if found is None:
            found = self.series[self._key(values, len(self.series))] = Gauge()
        return found


@dataclass(slots=True)
class Histograms(_Family):
    limits: tuple[float, ...] = SECONDS
    series: dict[tuple[str, ...], Histogram] = field(default_factory=dict)

    def of(self, *values: str) -> Histogram:
        """The histogram for these label values, in the order of `labels`."""
        found = self.series.get(values)
        if found is None:
            found = self.series[self._key(values, len(self.series))] = Histogram(self.limits)
        return found


Family = Counters | Gauges | Histograms


class Metrics:
    """The catalogue. Dashboards and alert rules are checked against these names."""

    def __init__(self) -> None:
        # RPC
        self.rpc_duration_seconds = Histograms(
            "rpc_duration_seconds", "Time to answer a call", ("service", "method", "code")
        )
        self.rpc_in_flight = Gauges("rpc_in_flight", "Calls being answered")
        self.rpc_deadline_exceeded_total = Counters(
            "rpc_deadline_exceeded_total", "Calls whose time was over before the answer"
        )
        self.rpc_refusals_total = Counters("rpc_refusals_total", "Refusals", ("reason",))
        # Lanes, database
        self.lane_wait_seconds = Histograms("lane_wait_seconds", "Wait in a lane", ("lane",))
        self.lane_queue_depth = Gauges("lane_queue_depth", "Items waiting in a lane", ("lane",))
        self.lane_batch_size = Histograms(
            "lane_batch_size", "Items flushed together", ("lane",), SIZES
        )
        self.lane_bisections_total = Counters(
            "lane_bisections_total", "Batches cut in two to find a poisoned item", ("lane",)
        )
        self.db_pool_in_use = Gauges("db_pool_in_use", "Connections in use")
        self.db_transaction_seconds = Histograms(
            "db_transaction_seconds", "Length of a transaction", ("operation",)
        )
        # Metering
        self.events_accepted_total = Counters("events_accepted_total", "Usage events accepted")
        self.events_rejected_total = Counters(
            "events_rejected_total", "Usage events rejected", ("reason",)
        )
        self.events_duplicate_total = Counters("events_duplicate_total", "Usage events repeated")
        self.event_lag_seconds = Histograms("event_lag_seconds", "Event time to balance visible")
        self.authorizations_total = Counters("authorizations_total", "Answers", ("answer",))
        self.authorize_duration_seconds = Histograms(
            "authorize_duration_seconds", "Time to authorize"
        )
        # Wallet
        self.debits_total = Counters("debits_total", "Debits", ("outcome",))
        self.holds_open = Gauges("holds_open", "Open holds")
        self.holds_expired_total = Counters("holds_expired_total", "Holds that expired")
        self.debt_atoms = Gauges("debt_atoms", "Owed by wallets below zero", ("asset",))
        self.recharges_total = Counters("recharges_total", "Recharges", ("outcome",))
        self.recharge_delay_seconds = Histograms(
            "recharge_delay_seconds", "Crossing debit to recharge started"
        )
        self.verify_mismatches_total = Counters(
            "verify_mismatches_total", "Balances that differ from the journal"
        )
        self.verify_lag_seconds = Gauges("verify_lag_seconds", "Age of the last full proof")
        # Invoicing
        self.invoices_total = Counters("invoices_total", "Invoices", ("state",))
        self.invoice_run_seconds = Histograms("invoice_run_seconds", "Length of an invoice run")
        self.invoice_run_backlog = Gauges("invoice_run_backlog", "Periods waiting to be invoiced")
        self.dunning_steps_total = Counters("dunning_steps_total", "Dunning steps", ("action",))
        # Gateway
        self.provider_call_seconds = Histograms(
            "provider_call_seconds",
            "Calls to providers",
            ("provider_account", "operation", "result"),
        )
        self.attempts_total = Counters(
            "attempts_total", "Payment attempts", ("provider_account", "state", "class")
        )
        self.attempts_unknown = Gauges("attempts_unknown", "Attempts of unknown outcome")
        self.attempt_unknown_oldest_seconds = Gauges(
            "attempt_unknown_oldest_seconds", "Age of the oldest attempt of unknown outcome"
        )
        self.notifications_total = Counters(
            "notifications_total", "Notifications from providers", ("provider_account", "state")
        )
        self.notification_lag_seconds = Histograms(
            "notification_lag_seconds", "Provider's time to ours"
        )
        self.unmapped_statuses_total = Counters(
            "unmapped_statuses_total", "Provider statuses that no table knows"
        )
        self.reconciliation_breaks = Gauges(
            "reconciliation_breaks", "Differences from providers' reports", ("kind",)
        )
        self.clearing_open_atoms = Gauges("clearing_open_atoms", "Not yet paid out", ("asset",))
        # Messages
        self.outbox_oldest_seconds = Gauges("outbox_oldest_seconds", "Age of the oldest message")
        self.outbox_rows = Gauges("outbox_rows", "Messages waiting to be published")
        self.inbox_duplicates_total = Counters("inbox_duplicates_total", "Messages seen before")
        self.stream_lag = Gauges("stream_lag", "Messages not yet consumed", ("consumer",))
        # Safety
        self.scrubbed_total = Counters("scrubbed_total", "Secrets kept out of logs", ("kind",))
        self.certificate_expiry_timestamp_seconds = Gauges(
            "certificate_expiry_timestamp_seconds", "When the certificate expires"
        )
        self.rate_limited_total = Counters("rate_limited_total", "Calls limited", ("limit",))
        self.schema_version = Gauges("schema_version", "Schema recorded", ("service",))

    def families(self) -> Iterator[Family]:
        """Every metric of the catalogue."""
        for family in vars(self).values():
            if isinstance(family, Counters | Gauges | Histograms):
                yield family


def render_text(metrics: Metrics) -> str:
    """The Prometheus text exposition (format 0.0.4) of everything that has a value."""
    lines: list[str] = []
    for family in metrics.families():
        if not family.series:
            continue
        name = PREFIX + family.name
        lines.append(f"# HELP {name} {family.help}")
        lines.append(f"# TYPE {name} {type(family).__name__.lower()[:-1]}")
        for sample, labels, value in samples(family):
            pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
            lines.append(
                f"{PREFIX}{sample}{{{pairs}}} {value}" if pairs else f"{PREFIX}{sample} {value}"
            )
    return "\n".join(lines) + "\n"


def samples(family: Family) -> Iterator[tuple[str, dict[str, str], float]]:
    """Each sample of a metric: its name, its labels, its value; buckets are cumulative."""
    for values, series in list(family.series.items()):
        labels = dict(zip(family.labels, values, strict=True))
        match series:
            case Counter():
                yield family.name, labels, series.value
            case Gauge():
                yield family.name, labels, series.read()
            case Histogram():
                counts = list(accumulate(series.counts))
                for limit, count in zip(series.limits, counts, strict=False):
                    yield f"{family.name}_bucket", {**labels, "le": f"{limit:g}"}, count
                yield f"{family.name}_bucket", {**labels, "le": "+Inf"}, counts[-1]
                yield f"{family.name}_sum", labels, series.sum
                yield f"{family.name}_count", labels, counts[-1]


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
