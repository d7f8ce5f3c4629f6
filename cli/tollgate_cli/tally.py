"""What was counted while usage was fed: the figures that the demo and a replay report."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from kernel.money import format_decimal
from tollgate.metering.v1 import event_pb2 as usage_events

ByCustomer = defaultdict[str, defaultdict[str, Decimal]]


def by_customer() -> ByCustomer:
    """Sums by customer and then by asset or meter."""
    return defaultdict(lambda: defaultdict(Decimal))


@dataclass
class Tally:
    """Counts of what became of every event. events = accepted + duplicates + rejected."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    refused_at_gate: int = 0
    allowed_at_gate: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    charged: ByCustomer = field(default_factory=by_customer)
    authorize_ms: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)  # the first few, for people

    _answered: set[str] = field(default_factory=set)

    @property
    def events(self) -> int:
        return self.accepted + self.duplicates + self.rejected

    def count(self, event: usage_events.Event, outcome: usage_events.EventOutcome) -> None:
        """Count the final answer to one event that was sent.

        An answer is a duplicate where this id was answered to us before: an answer that was lost
        on its way and asked for again is the first one that counts.
        """
        if event.event_id in self._answered:
            self.duplicates += 1
            return
        self._answered.add(event.event_id)
        if outcome.state == usage_events.EVENT_STATE_ACCEPTED:
            self.accepted += 1
            for charge in outcome.charges:
                taken = Decimal(charge.amount.value) - Decimal(charge.shortfall or 0)
                self.charged[event.customer_id][charge.amount.asset] += taken
        else:
            self._reject(outcome.refusal.reason)
            self._keep(f"event {event.event_id}: {outcome.refusal.message}")

    def deny(self, customer_id: str, reasons: list[str]) -> None:
        """Count usage that the gate refused and that therefore never ran."""
        self.refused_at_gate += 1
        self._reject(reasons[0])
        self._keep(f"usage of {customer_id} at the gate: {', '.join(reasons)}")

    def charged_by_asset(self) -> dict[str, str]:
        """Sum of all charges by asset, as decimal strings."""
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for assets in self.charged.values():
            for asset, value in assets.items():
                sums[asset] += value
        return {asset: format_decimal(value) for asset, value in sorted(sums.items())}

    def authorize_percentiles(self) -> dict[str, float]:
        """p50 and p99 of the gate's answers in milliseconds; zero where it was not asked."""
        ordered = sorted(self.authorize_ms)
        if not ordered:
            return {"p50": 0.0, "p99": 0.0}
        return {
            "p50": round(ordered[len(ordered) // 2], 3),
            "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 3),
        }

    def _reject(self, reason: str) -> None:
        self.rejected += 1
        self.denied[reason] += 1

    def _keep(self, sentence: str) -> None:
        if len(self.refusals) < 10:
            self.refusals.append(sentence)
