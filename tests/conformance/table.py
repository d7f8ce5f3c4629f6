"""docs/providers.md, made of what providers declare and of what came of the conformance kit.

`python -m tests.conformance.table` runs the kit over every provider and writes both anew.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from gateway.domain.provider_account import Capabilities
from gateway.providers.commands import Login
from gateway.providers.registry import PROVIDERS
from tests.conformance.support import ROOT, Report, run_kit

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "providers.md"
RIGS = {
    "sandbox": "tests.conformance.rigs:SandboxRig",
    "stripe": "tests.conformance.dialects:StripeRig",
    "adyen": "tests.conformance.dialects:AdyenRig",
    "gocardless": "tests.conformance.dialects:GoCardlessRig",
    "razorpay": "tests.conformance.dialects:RazorpayRig",
    "paddle": "tests.conformance.dialects:PaddleRig",
    "chargebee": "tests.conformance.dialects:ChargebeeRig",
}
# What vouches for each beside the kit: tests of the project, by what they hold it against.
WITNESSES = {
    "sandbox": "a process with a journal, killed and restarted; storms of faults",
    "stripe": "official client (signatures, requests, answers); localstripe; published description",
    "adyen": "official client (signatures); published descriptions of API and notifications",
    "gocardless": "official client (signatures); its fixtures",
    "razorpay": "official client (signatures, requests); its fixtures",
    "paddle": "official client (signatures); published description",
    "chargebee": "official client (requests)",
}
INTRODUCTION = """# Providers: what each can do, and how it was tested

Made by `python -m tests.conformance.table`, and compared with the code by the tests; not written by
hand. No live account of any vendor has been used yet: the six meet the sandbox in their own words
(`python -m gateway.sandbox --dialect NAME`).

## What each declares

"""


def summary(report: Report) -> dict[str, Any]:
    """How many cases of each group passed, and why the others did not apply."""
    passed: dict[str, int] = {}
    for name in report.named("passed"):
        group = name.partition("::")[0].removeprefix("test_").removesuffix(".py")
        passed[group] = passed.get(group, 0) + 1
    skipped: dict[str, str] = {}
    for name in report.named("skipped"):
        case = name.partition("::")[2].removeprefix("test_")
        skipped[case] = report.cases[name]["why"]
    return {"passed": passed, "skipped": skipped}


def render(results: Mapping[str, Any]) -> str:
    """The page."""
    names = list(RIGS)
    offers = {name: _declared(name) for name in names}
    text = INTRODUCTION + _row("", *names) + _row("---", *["---"] * len(names))
    for field in fields(Capabilities):
        text += _row(f"`{field.name}`", *(_shown(getattr(offers[n], field.name)) for n in names))
    text += "\n## How it was tested\n\nCases of the conformance kit that each passes, by group:\n\n"
    text += _row("", *names) + _row("---", *["---"] * len(names))
    for group in sorted({each for name in names for each in results[name]["passed"]}):
        counts = (str(results[name]["passed"].get(group, "–")) for name in names)
        text += _row(group, *counts)
    totals = (f"**{sum(results[name]['passed'].values())}**" for name in names)
    text += _row("**together**", *totals)
    text += _row("did not apply", *(str(len(results[name]["skipped"])) for name in names))
    text += "\nBeside the kit:\n\n" + _row("Provider", "Held against") + _row("---", "---")
    for name in names:
        text += _row(name, WITNESSES[name])
    text += "\n## What did not apply, and why\n"
    for name in names:
        text += f"\n**{name}**\n\n"
        reasons: dict[str, list[str]] = {}
        for case, why in results[name]["skipped"].items():
            reasons.setdefault(why, []).append(case)
        for why, cases in sorted(reasons.items()):
            shown = sorted({each.partition("[")[0].replace("_", " ") for each in cases})
            text += f"- {why}: {'; '.join(shown)}\n"
    return text


def _declared(name: str) -> Capabilities:
    provider = PROVIDERS[name]
    endpoint = provider.endpoint or "https://merchant.example"
    return provider.capabilities(Login(uuid.UUID(int=1), endpoint))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "–"
    if isinstance(value, timedelta):
        if not value:
            return "–"
        days, rest = divmod(int(value.total_seconds()), 86_400)
        return f"{days} d" if days and not rest else f"{int(value.total_seconds())} s"
    assert isinstance(value, Enum)
    return "–" if value.value == "NONE" else str(value.value).lower().replace("_", " ")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, rig in RIGS.items():
            report = run_kit(f"builtin:{name}", rig, Path(folder))
            if report.named("failed"):
                raise SystemExit(f"{name} does not conform: {report.named('failed')}")
            results[name] = summary(report)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(render(results), encoding="utf-8")


if __name__ == "__main__":
    main()
