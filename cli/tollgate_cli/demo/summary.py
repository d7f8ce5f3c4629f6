"""The demo's figures, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from rich.table import Table

from kernel.money import format_decimal
from tollgate.invoicing.v1 import invoice_pb2 as invoices
from tollgate_cli.demo import world
from tollgate_cli.demo.story import Outcome

UNPAID_AND_TRIED = frozenset(
    {
        invoices.DUNNING_STATE_RETRYING,
        invoices.DUNNING_STATE_WAITING_FOR_CUSTOMER,
        invoices.DUNNING_STATE_EXHAUSTED,
    }
)


def summarize(outcome: Outcome) -> dict[str, Any]:
    """All figures under their stable keys. Amounts are decimal strings."""
    tally = outcome.tally
    issued = [invoice for invoice in outcome.invoices if invoice.number]
    invoiced = sum((Decimal(i.total) for i in issued), Decimal(0))
    due = sum((Decimal(i.amount_due) for i in issued), Decimal(0))
    kinds = Counter(invoices.InvoiceKind.Name(i.kind) for i in issued)
    return {
        "customers": world.CUSTOMERS,
        "events": tally.events,
        "accepted": tally.accepted,
        "duplicates": tally.duplicates,
        "rejected": tally.rejected,
        "denied": dict(sorted(tally.denied.items())),
        "gate": {"allowed": tally.allowed_at_gate, "denied": tally.refused_at_gate},
        "charged": tally.charged_by_asset(),
        "recharges": outcome.recharges,
        "mrr": outcome.mrr,
        "invoices": len(issued),
        "invoices_by_kind": {
            name.removeprefix("INVOICE_KIND_").lower(): number
            for name, number in sorted(kinds.items())
        },
        "invoiced": format_decimal(invoiced),
        "collected": format_decimal(invoiced - due),
        "dunning": sum(1 for i in issued if i.dunning_state in UNPAID_AND_TRIED),
        "authorize_ms": tally.authorize_percentiles(),
        "events_per_second": round(tally.events / outcome.feed_seconds, 1),
        "verified": outcome.findings.clean,
        "verification": {
            "wallets": outcome.findings.wallets,
            "transfers": outcome.findings.transfers,
            "events": outcome.findings.events,
            "charges": outcome.findings.charges,
            "wrong": outcome.findings.wrong,
        },
    }


def table(summary: dict[str, Any]) -> Table:
    """The same figures for a person."""
    rows = Table(title="One month of Tollgate", show_header=False, title_style="bold")
    rows.add_column(style="cyan")
    rows.add_column(justify="right")
    latency, checked = summary["authorize_ms"], summary["verification"]
    denied = ", ".join(f"{reason} {count:,}" for reason, count in summary["denied"].items())
    charged = ", ".join(f"{value} {asset}" for asset, value in summary["charged"].items())
    for name, value in (
        ("customers", f"{summary['customers']}"),
        ("events", f"{summary['events']:,} at {summary['events_per_second']:,.0f} a second"),
        ("accepted", f"{summary['accepted']:,}"),
        ("duplicates", f"{summary['duplicates']:,}"),
        ("denied", f"{summary['rejected']:,} ({denied})" if denied else "0"),
        ("authorized", f"{summary['gate']['allowed']:,} of {_asked(summary):,}"),
        ("authorize p50 / p99", f"{latency['p50']:.1f} ms / {latency['p99']:.1f} ms"),
        ("debited from wallets", charged),
        ("recharges", f"{summary['recharges']}"),
        ("monthly recurring revenue", f"{Decimal(summary['mrr']):,.2f} USD"),
        ("invoices", f"{summary['invoices']}"),
        ("invoiced", f"{Decimal(summary['invoiced']):,.2f} USD"),
        ("collected", f"{Decimal(summary['collected']):,.2f} USD"),
        ("left for dunning", f"{summary['dunning']}"),
        (
            "verified",
            f"{checked['transfers']:,} transfers of {checked['wallets']} wallets, "
            f"{checked['charges']:,} charges"
            if summary["verified"]
            else "NO",
        ),
    ):
        rows.add_row(name, value)
    return rows


def _asked(summary: dict[str, Any]) -> int:
    return int(summary["gate"]["allowed"] + summary["gate"]["denied"])
