"""Hypothesis under the proof's own seed: so many examples of a property or of a state machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

FAST = (Phase.explicit, Phase.generate)  # a mutant that failed need not be made small


def profile(examples: int, *, shrink: bool = True, steps: int = 50) -> settings:
    """No deadline, no memory of other runs: the seed alone decides what is tried."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=tuple(Phase) if shrink else FAST,
    )


def check(
    property_: Callable[..., None],
    number: int,
    how: settings,
    strategies: Mapping[str, SearchStrategy[Any]],
) -> None:
    """Try a property; raises what it raised for the smallest example found."""
    seed(number)(how(given(**strategies)(property_)))()


def run_machine(machine: type[RuleBasedStateMachine], number: int, how: settings) -> None:
    """Try a state machine; raises what an invariant or a rule raised."""
    seed(number)(machine)
    run_state_machine_as_test(machine, settings=how)  # type: ignore[no-untyped-call]
