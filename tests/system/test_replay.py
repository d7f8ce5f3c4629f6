"""A stranger's usage file, billed by one command and calculated a second time by hand."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACE = ROOT.parent / "shared" / "data" / "azure_llm_trace_code.csv"
MAPPING = ROOT / "examples" / "llm-trace.yaml"
COMMAND_SECONDS_MAX = 240

# What examples/llm-trace.yaml says, written down a second time.
TEAMS = 10
OPENING = Decimal(20)
MILLION = 1_000_000
INPUT = (Fraction(1), Fraction(3), Fraction("2.5"))  # up to a million at 3.00, then 2.50
OUTPUT = (Fraction("0.02"), Fraction(15), Fraction(12))


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tollgate_cli", "replay", *arguments, "--folder", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def cost(tokens: int, tariff: tuple[Fraction, Fraction, Fraction]) -> Decimal:
    """Cumulative cost in whole atoms of 10^-9, half away from zero."""
    bound, first, second = tariff
    millions = Fraction(tokens, MILLION)
    exact = min(millions, bound) * first + max(millions - bound, Fraction(0)) * second
    atoms = (exact * 10**9 * 2 + 1) // 2
    return Decimal(int(atoms)).scaleb(-9)


def by_hand(path: Path) -> dict[str, dict[str, int]]:
    usage: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            team = usage[f"team-{number % TEAMS + 1}"]
            team["input_tokens"] += int(row["ContextTokens"])
            team["output_tokens"] += int(row["GeneratedTokens"])
            team["requests"] += 1
    return usage


def as_decimals(table: dict[str, dict[str, str]]) -> dict[str, dict[str, Decimal]]:
    return {
        name: {key: Decimal(value) for key, value in inner.items()} for name, inner in table.items()
    }


def test_a_real_trace_is_billed_to_the_last_atom(tmp_path: Path) -> None:
    if not TRACE.exists():
        pytest.skip("the trace of real LLM requests is not beside this checkout (../shared/data)")
    out = tmp_path / "out.json"
    ended = run(
        str(TRACE), "--mapping", str(MAPPING), "--summary", str(out), folder=tmp_path / "servers"
    )
    assert ended.returncode == 0, ended.stderr
    summary: dict[str, Any] = json.loads(out.read_text())
    usage = by_hand(TRACE)
    rows = sum(team["requests"] for team in usage.values())
    assert summary["events"] == summary["accepted"] == rows
    assert summary["duplicates"] == summary["rejected"] == 0
    assert summary["denied"] == {}
    assert summary["verified"] is True
    assert as_decimals(summary["usage"]) == {
        team: {meter: Decimal(count) for meter, count in meters.items()}
        for team, meters in usage.items()
    }
    charged = {
        team: cost(meters["input_tokens"], INPUT) + cost(meters["output_tokens"], OUTPUT)
        for team, meters in usage.items()
    }
    assert {t: a["USD"] for t, a in as_decimals(summary["charged"]).items()} == charged
    assert {t: a["USD"] for t, a in as_decimals(summary["balances"]).items()} == {
        team: OPENING - value for team, value in charged.items()
    }


JSON_LINES = "\n".join(
    json.dumps({"id": f"e{n}", "at": f"2024-03-01T10:00:{n:02}Z", "who": who, "n": 3, "m": "a"})
    for n, who in enumerate(["x", "y", "x", "x", "y"])
)
SMALL_MAPPING = """
format: jsonl
event:
  name: call
  time: {column: at}
  id: id
  customer: {column: who}
  properties: {units: n, model: {value: a}}
gate_share: "0.5"
assets: [{code: token, scale: 0, kind: UNIT}, {code: USD, scale: 9, kind: CURRENCY}]
meters:
  - {code: units, event_name: call, aggregation: SUM, value_property: units, unit: unit}
prices:
  - meter: units
    pricing:
      asset: token
      graduated:
        bound: UPPER_EXCLUSIVE
        tiers: [{up_to: "1000", unit_price: "2"}, {unit_price: "1"}]
opening_balances:
  - {asset: token, amount: "13", customers: [x]}
  - {asset: token, amount: "100", customers: [y]}
"""


def test_a_wallet_that_runs_dry_refuses_the_rest_and_says_so(tmp_path: Path) -> None:
    """x has funds for two of its three events of 6 tokens; y for both of its own."""
    (tmp_path / "usage.jsonl").write_text(JSON_LINES)
    (tmp_path / "map.yaml").write_text(SMALL_MAPPING)
    out = tmp_path / "out.json"
    ended = run(
        str(tmp_path / "usage.jsonl"), "--mapping", str(tmp_path / "map.yaml"),
        "--summary", str(out), folder=tmp_path / "servers",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(out.read_text())
    assert (summary["events"], summary["accepted"], summary["rejected"]) == (5, 4, 1)
    assert summary["denied"] == {"INSUFFICIENT_FUNDS": 1}
    assert summary["usage"] == {"x": {"units": "6"}, "y": {"units": "6"}}
    assert summary["charged"] == {"x": {"token": "12"}, "y": {"token": "12"}}
    assert summary["balances"] == {"x": {"token": "1"}, "y": {"token": "88"}}
    assert summary["verified"] is True


@pytest.mark.parametrize(
    ("usage", "mapping", "sentence"),
    [
        (JSON_LINES + "\n{not json", SMALL_MAPPING, "row 6: is not JSON"),
        (JSON_LINES.replace('"n": 3', '"n": -3', 1), SMALL_MAPPING, "row 1.n: -3 is negative"),
        (JSON_LINES.replace('"n": 3', '"n": "NaN"', 1), SMALL_MAPPING, "not a decimal number"),
        (JSON_LINES.replace("10:00:02", "25:00:02"), SMALL_MAPPING, "row 3.at: "),
        ("", SMALL_MAPPING, "holds no rows"),
        (JSON_LINES, SMALL_MAPPING.replace("- meter: units", "- meter: uints"),
         "prices[0].meter: there is no meter 'uints'"),
        (JSON_LINES, SMALL_MAPPING.replace('unit_price: "2"', 'unit_price: "two"'),
         "prices[0].pricing.graduated.tiers[0].unit_price"),
        (JSON_LINES, SMALL_MAPPING.replace("format: jsonl", "format: xml"), "format: 'xml'"),
        (JSON_LINES, SMALL_MAPPING.replace("who", "whom"), "row 1.whom: there is no such column"),
        (JSON_LINES, "a: [", "is not valid YAML near line"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_ends_in_one_sentence_before_anything_is_fed(
    tmp_path: Path, usage: str, mapping: str, sentence: str
) -> None:
    (tmp_path / "usage.jsonl").write_text(usage)
    (tmp_path / "map.yaml").write_text(mapping)
    folder = tmp_path / "servers"
    ended = run(
        str(tmp_path / "usage.jsonl"), "--mapping", str(tmp_path / "map.yaml"), folder=folder
    )
    assert ended.returncode == 2
    assert sentence in " ".join(ended.stderr.split())
    assert not folder.exists(), "nothing may have been started"
