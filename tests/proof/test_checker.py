"""The checker itself: a history that is right passes, and each kind of wrong is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from proof.operations import Customer, Operation, Reply
from proof.replaying import Move, Replay

START = datetime(2026, 1, 5, tzinfo=UTC)
WALLET = "w"


def history() -> tuple[Customer, dict[str, Operation], list[Move]]:
    """A grant of 10, a debit of 4, and what they were answered."""
    customer = Customer("c", [WALLET])
    granted = Reply("granted", atoms=10, available=10, name="g1")
    posted = Reply("posted", atoms=4, available=6, shares=((WALLET, 4, 2),))
    operations = [
        Operation("grant-1", "grant", customer, atoms=10, wallet=0, sent=1, replied=2,
                  reply=granted),
        Operation("debit-1", "debit", customer, atoms=4, sent=3, replied=4, reply=posted),
    ]  # fmt: skip
    moves = [
        Move(1, 1, "house", "wallet", 10, "grant-1", (("g1", 10),), START),
        Move(2, 2, "wallet", "house", 4, "debit-1", (("g1", 4),), START + timedelta(seconds=1)),
    ]
    return customer, {operation.key: operation for operation in operations}, moves


def wrong_of(customer: Customer, operations: dict[str, Operation], moves: list[Move]) -> list[str]:
    replay = Replay(customer, operations)
    replay.run([moves])
    return replay.wrong


def test_a_history_that_is_right_passes() -> None:
    assert wrong_of(*history()) == []


def test_a_move_that_nobody_asked_is_a_ghost() -> None:
    customer, operations, moves = history()
    ghost = Move(3, 2, "wallet", "house", 1, "debit-2", (("g1", 1),), START)
    (words,) = wrong_of(customer, operations, [*moves, ghost])
    assert "ghost" in words


def test_a_reply_that_says_another_balance_is_divergent() -> None:
    customer, operations, moves = history()
    debit = operations["debit-1"]
    assert debit.reply is not None
    debit.reply = replace(debit.reply, available=7)
    (words,) = wrong_of(customer, operations, moves)
    assert "the model says" in words


def test_a_refusal_that_moved_value_is_a_ghost() -> None:
    customer, operations, moves = history()
    operations["debit-1"].reply = Reply("refused", "INSUFFICIENT_FUNDS")
    (words,) = wrong_of(customer, operations, moves)
    assert "ghost" in words


def test_value_taken_from_the_wrong_grant_is_found() -> None:
    customer, operations, moves = history()
    second = Operation(
        "grant-2", "grant", customer, atoms=5, wallet=0, priority=10, sent=2, replied=3,
        reply=Reply("granted", atoms=5, available=5, name="g2"),
    )  # fmt: skip
    operations["grant-2"] = second
    grant = Move(2, 1, "house", "wallet", 5, "grant-2", (("g2", 5),), START)
    debit = replace(moves[1], sequence=3)
    reply = Reply("posted", atoms=4, available=11, shares=((WALLET, 4, 3),))
    operations["debit-1"].reply = reply
    # The second grant comes first in burn order, and the debit took from the first.
    assert wrong_of(customer, operations, [moves[0], grant, debit]) != []
