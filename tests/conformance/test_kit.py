"""The kit over the providers that are here, and over one that somebody brought."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.support import ROOT, Report, run_kit
from tests.conformance.table import RESULTS, RIGS, summary

EXAMPLE = ROOT / "examples" / "corner-bank"
CASES_MIN = 40  # that a provider passes


def holds(report: Report) -> None:
    assert report.named("failed") == [], report.output[-8000:]
    skipped = [name for name in report.named("skipped") if not report.cases[name]["why"]]
    assert skipped == [], "a skip gives its reason"
    assert len(report.named("passed")) >= CASES_MIN, report.output[-3000:]


@pytest.mark.parametrize("name", RIGS)
def test_a_provider_conforms_as_its_page_says(name: str, tmp_path: Path) -> None:
    report = run_kit(f"builtin:{name}", RIGS[name], tmp_path)
    holds(report)
    told = json.loads(RESULTS.read_text(encoding="utf-8"))[name]
    assert summary(report) == told, "run `python -m tests.conformance.table`"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The example as a process: its target, and the file of its books."""
    books = tmp_path / "books.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-m", "corner_bank", "--books", str(books), "--demo-customer", "kit-ada"],
        cwd=EXAMPLE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        target = json.loads(process.stdout.readline())["target"]
        yield target, books
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def test_the_example_conforms_over_grpc(bank: tuple[str, Path], tmp_path: Path) -> None:
    target, books = bank
    environment = {
        "CORNER_BANK_BOOKS": str(books),
        "PYTHONPATH": os.pathsep.join([str(EXAMPLE), str(ROOT)]),
    }
    report = run_kit(f"grpc:{target}", "corner_rig:CornerRig", tmp_path, environment=environment)
    holds(report)
    assert "test_capabilities.py::test_what_is_not_declared_is_answered_unimplemented" in (
        report.named("passed")
    )


def test_a_provider_that_charges_twice_does_not_conform(tmp_path: Path) -> None:
    """The kit can fail: a sandbox that forgets keys is found out."""
    report = run_kit(
        "builtin:sandbox", "tests.conformance.rigs:ForgetfulRig", tmp_path, "-k", "same_key_twice"
    )
    assert report.named("failed") == ["test_keys.py::test_the_same_key_twice_charges_once"]
