"""`tollgate`: every command is a module of its own, registered here."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from chassis.embedded import EmbeddedFailed
from chassis.migrations import MigrationRefused
from kernel.errors import Refusal
from tollgate_cli import screen
from tollgate_cli.children import ChildFailed
from tollgate_cli.installation import SuiteFailed
from tollgate_sdk import TollgateError

FAILED = 1

# (command, module, function). Modules are imported when their command is asked for, so that `down`
# does not wait for the demo's plotting library.
COMMANDS = (
    ("up", "tollgate_cli.running", "up"),
    ("down", "tollgate_cli.running", "down"),
    ("status", "tollgate_cli.running", "status"),
    ("migrate", "tollgate_cli.migrating", "migrate"),
    ("demo", "tollgate_cli.demo.command", "demo"),
    ("replay", "tollgate_cli.replay.command", "replay_file"),
    ("rate", "tollgate_cli.rate", "rate"),
    ("catalog", "tollgate_cli.catalog", "catalog"),
    ("usage", "tollgate_cli.usage", "usage"),
    ("bill", "tollgate_cli.bill", "bill"),
    ("invoice", "tollgate_cli.bill", "invoice"),
    ("verify", "tollgate_cli.verifying", "verify_tenant"),
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what goes wrong is one sentence on standard error and a non-zero exit."""
    words = sys.argv[1:] if arguments is None else arguments
    with explaining():
        build(words[0] if words else "")(words, prog_name="tollgate")


@contextmanager
def explaining() -> Iterator[None]:
    """Turn what a person can do something about into a sentence, and leave with code 1."""
    try:
        yield
    except (SuiteFailed, EmbeddedFailed, MigrationRefused, ChildFailed) as error:
        _say(str(error))
    except (TollgateError, TimeoutError) as error:
        _say(str(error))
    except ExceptionGroup as group:
        _say_of_group(group)
    except Refusal as refusal:
        _say(refusal.message)
    except OSError as error:
        _say("the disk is full" if error.errno == errno.ENOSPC else str(error))


def build(asked: str) -> Callable[..., object]:
    """The application, with the asked command alone where it is one, else with all."""
    app = typer.Typer(
        help="Tollgate: gate usage before it runs, charge every event, invoice the rest.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_no_options)
    names = [name for name, _, _ in COMMANDS]
    for name, module, function in COMMANDS:
        if asked not in names or asked == name:
            found = getattr(importlib.import_module(module), function)
            if isinstance(found, typer.Typer):
                app.add_typer(found, name=name)
            else:
                app.command(name)(found)
    return app


def _no_options() -> None:
    """Tollgate: gate usage before it runs, charge every event, invoice the rest."""


def _say_of_group(group: ExceptionGroup[Exception]) -> None:
    """Work that ran side by side fails as a group; the first cause is the one to tell."""
    first: Exception = group
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, TollgateError | TimeoutError | OSError):
        _say(str(first))
    raise group


def _say(sentence: str) -> None:
    screen.told.print(f"{sentence}.", style="red", highlight=False, soft_wrap=True)
    raise SystemExit(FAILED)


if __name__ == "__main__":
    main()
