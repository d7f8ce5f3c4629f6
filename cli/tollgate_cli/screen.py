"""What a person sees: progress on standard error, results on standard output, one clear sentence
where something ends badly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

output = Console()
told = Console(stderr=True)


class Stages:
    """Progress of work in stages; each call of a stage's function adds to what is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __call__(self, title: str, total: int) -> Callable[[int], None]:
        task = self._progress.add_task(title, total=total)
        return lambda count: self._progress.advance(task, count)


@contextmanager
def stages() -> Iterator[Stages]:
    """Show stages while in the block. Where there is no terminal, only their ends are printed."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=told,
    ) as progress:
        yield Stages(progress)
