"""`tollgate rate`: a rating request on standard input, its result on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from kernel.errors import Refusal
from rating.request import answer

INPUT_BYTES_MAX = 64 * 1024 * 1024  # 100,000 events with ten properties each
REFUSED = 2  # exit code


def rate() -> None:
    """Rate usage at a price: RatingRequest as JSON in, RatingResult as JSON out.

    A request that cannot be answered is told in one sentence on standard error, with exit code 2.
    """
    try:
        result = answer(_read(sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)))
    except Refusal as refusal:
        print(f"{refusal.message}.", file=sys.stderr)
        raise typer.Exit(REFUSED) from refusal
    except _Unreadable as unreadable:
        print(f"{unreadable}.", file=sys.stderr)
        raise typer.Exit(REFUSED) from unreadable
    json.dump(result, sys.stdout, indent=2, ensure_ascii=False)
    print()


class _Unreadable(Exception):
    """The input is not a JSON object at all."""


def _read(content: bytes) -> dict[str, Any]:
    if len(content) > INPUT_BYTES_MAX:
        raise _Unreadable(f"The request is longer than {INPUT_BYTES_MAX} bytes")
    try:
        # A number in the text stays text, so that 0.1 is a tenth and never a binary float.
        document = json.loads(content, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")
        raise _Unreadable(f"The request is not JSON: {reason}") from error
    if not isinstance(document, dict):
        raise _Unreadable("The request is not a JSON object")
    return document
