"""The page of providers says what the code declares and what the last run of the kit came to."""

from __future__ import annotations

import json

from tests.conformance.table import PAGE, RESULTS, RIGS, render

CASES_MIN = 40  # that each provider passes


def test_the_page_of_providers_is_current() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = "run `python -m tests.conformance.table`"
    assert PAGE.read_text(encoding="utf-8") == render(results), text


def test_every_provider_passes_its_cases() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert set(results) == set(RIGS)
    few = {
        name: sum(told["passed"].values())
        for name, told in results.items()
        if sum(told["passed"].values()) < CASES_MIN
    }
    assert few == {}
