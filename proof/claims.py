"""What a layer claims, the figures it stands on, and the report that is printed of both."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from proof.stage import Stage

REASONS_MAX = 5  # of a claim that fails; the first ones say what is wrong


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. Operations and faults are of the layers that load; 0 is their own."""

    seed: int
    long: bool = False
    operations: int = 0
    faults: int = 0
    minutes: float = 0.0
    only: str = ""  # one case of a layer, by name


@dataclass
class Layer:
    """One layer's findings."""

    name: str
    seed: int
    figures: dict[str, object] = field(default_factory=dict)
    claims: list[tuple[str, list[str]]] = field(default_factory=list)

    def claim(self, sentence: str, wrong: list[str] | None = None) -> None:
        """A claim holds where nothing is wrong with it."""
        found = list(wrong or [])
        self.claims.append((sentence, found))
        say(f"   {'FAILS' if found else 'holds'}  {sentence}")
        for reason in found[:REASONS_MAX]:
            say(f"          {reason}")
        if len(found) > REASONS_MAX:
            say(f"          … and {len(found) - REASONS_MAX} more")

    def figure(self, name: str, value: object) -> None:
        self.figures[name] = value
        shown = f"{value:,}" if isinstance(value, int) else value
        say(f"   {name}: {shown}")

    @contextmanager
    def claiming(self, sentence: str) -> Iterator[None]:
        """Claim what the block checks; an assertion that fails is what is wrong."""
        try:
            yield
        except AssertionError as error:
            self.claim(sentence, [_first_lines(error)])
        else:
            self.claim(sentence)

    @property
    def holds(self) -> bool:
        return bool(self.claims) and not any(wrong for _, wrong in self.claims)


Run: TypeAlias = Callable[[Layer, Options, Stage], Awaitable[None]]


async def run_layer(name: str, run: Run, options: Options, stage: Stage) -> Layer:
    """Run one layer and print what it finds; a fault of the layer itself is a claim that fails."""
    layer = Layer(name, options.seed)
    say(f"== {name} (seed {options.seed})")
    started = time.monotonic()
    try:
        await run(layer, options, stage)
    except Exception as error:
        layer.claim("the layer runs to its end", [f"{type(error).__name__}: {error}"])
        raise
    finally:
        layer.figure("seconds", round(time.monotonic() - started, 1))
    return layer


def say(line: str) -> None:
    print(line, flush=True)


def tell(line: str) -> None:
    """Progress, beside the report."""
    print(f"   … {line}", file=sys.stderr, flush=True)


def _first_lines(error: AssertionError) -> str:
    words = str(error).strip() or "an assertion failed"
    return " | ".join(words.splitlines()[:6])[:600]
