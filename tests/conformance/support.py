"""Runs the conformance kit as a third party does: a pytest of its own, with a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 300


@dataclass(frozen=True)
class Report:
    """What came of a run: each case's outcome, and why it was skipped."""

    cases: Mapping[str, Mapping[str, str]]
    output: str

    def named(self, outcome: str) -> list[str]:
        return sorted(name for name, told in self.cases.items() if told["outcome"] == outcome)


def run_kit(
    provider: str,
    rig: str,
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Run every case against a provider; the report is complete whatever came of it."""
    path = folder / "report.json"
    path.unlink(missing_ok=True)
    run = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "--pyargs", "tollgate_conformance.cases",
            "-p", "tollgate_conformance.plugin", "-p", "no:cacheprovider",
            "--provider", provider, "--rig", rig, "--report", str(path), *options,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )  # fmt: skip
    assert path.exists(), run.stdout + run.stderr
    return Report(json.loads(path.read_text(encoding="utf-8")), run.stdout + run.stderr)
