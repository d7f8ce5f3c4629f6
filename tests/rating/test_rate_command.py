"""`tollgate rate` reads a request, answers a result, and refuses in one sentence."""

from __future__ import annotations

import io
import json
import sys

import pytest
import typer

from tollgate_cli.rate import rate


def run(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    rate()


def test_the_command_answers_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        monkeypatch,
        '{"price": {"asset": "USD", "unit": {"unit_price": 0.1}}, "usage": {"quantity": 3}}',
    )
    told = capsys.readouterr()
    assert json.loads(told.out)["total"]["exact"] == "0.3"
    assert told.err == ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "The request is not JSON"),
        ("[1]", "The request is not a JSON object."),
        ('{"price": {"asset": "USD", "unit": {"unit_price": "x"}}}', "price.unit.unit_price: 'x'"),
        ('{"price": {"asset": "USD", "flat": {"amount": NaN}}}', "price.flat.amount: 'NaN'"),
        ('{"price": {"asset": "USD", "matrix": {"dimensions": ["m"], "cells": '
         '[{"values": {"m": "a"}, "flat": {"amount": "1"}}]}}, "usage": {"events": [{}]}}',
         "no cell of the price matches"),
    ],
)  # fmt: skip
def test_the_command_refuses_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str,
    sentence: str,
) -> None:
    with pytest.raises(typer.Exit) as left:
        run(monkeypatch, content)
    assert left.value.exit_code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(sentence)
    assert told.err.endswith(".\n")
    assert told.err.count("\n") == 1
