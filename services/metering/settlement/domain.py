"""Which debits an event's charges are, and what their answers mean for the event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from metering.charging.domain import (
    Capture,
    ChargeRefused,
    Debit,
    OverUse,
    Posted,
    Refused,
    Reversal,
    SpendCapReached,
    charge_of,
    refused,
)
from metering.gate.domain.authorization import Authorization, AuthorizationEnded

RELEASES_UNTIL = 255  # releases of holds are numbered up to here, above all charges


class ChargeLine(NamedTuple):
    """What one price asks for an event."""

    meter: str
    product: str
    asset: str
    scale: int
    atoms: int


class Chargeable(NamedTuple):
    """An event that the wallet has something to do for."""

    receipt_id: UUID
    event_id: str
    customer_id: str
    lines: Sequence[ChargeLine]
    authorization: Authorization | None
    returns: Sequence[ChargeReturn] = ()
    node: str = ""  # of the customer's budgets; that of an authorization is known to its holds
    continues: bool = False  # the authorization stays open for more


class ChargeReturn(NamedTuple):
    """What a correction gives back of one charge."""

    number: int  # of the customer's usage
    charge_id: str
    asset: str
    scale: int
    atoms: int


class ChargeAnswer(NamedTuple):
    """What the wallet did for one event: an answer per line, or why it took nothing."""

    lines: list[Posted | None]  # None where a line asked for nothing
    refusal: Refused | None
    unreturned: tuple[ChargeReturn, ...] = ()  # what it refused to give back

    @property
    def shortfalls(self) -> dict[int, int]:
        """Atoms that fell short, by position of the line."""
        return {
            position: posted.shortfall
            for position, posted in enumerate(self.lines)
            if posted is not None and posted.shortfall
        }


def debits_of(event: Chargeable) -> list[Debit]:
    """The debits of an event; the same event always gives the same ones, keys included.

    Where there are several they form a group: an event is charged as a whole or not at all. The
    last debit in an asset ends the authorization's hold in it; a hold that nothing is charged to
    is released by a debit of zero. An event that more follow leaves what it does not use set aside.
    """
    holds = {} if event.authorization is None else {h.asset: h for h in event.authorization.holds}
    feature = "" if event.authorization is None else event.authorization.feature
    over_use = OverUse.REJECT if event.authorization is None else event.authorization.over_use
    charged = [(n, line) for n, line in enumerate(event.lines, 1) if line.atoms]
    last = {line.asset: number for number, line in charged}
    released = [hold for hold in holds.values() if hold.asset not in last]
    if event.continues:
        last, released = {}, []
    group = charge_of(event.receipt_id, 0) if len(charged) + len(released) > 1 else ""
    debits = []
    for number, line in charged:
        hold = holds.get(line.asset)
        capture = hold and Capture(hold.hold_id, last.get(line.asset) == number, over_use)
        debits.append(
            Debit(
                charge_of(event.receipt_id, number),
                event.customer_id,
                line.asset,
                line.scale,
                line.atoms,
                line.meter,
                feature,
                line.product,
                event.event_id,
                group,
                capture,
                event.node if capture is None else "",
            )
        )
    for place, hold in enumerate(released):
        debits.append(
            Debit(
                charge_of(event.receipt_id, RELEASES_UNTIL - len(released) + 1 + place),
                event.customer_id,
                hold.asset,
                hold.scale,
                0,
                "",
                feature,
                "",
                event.event_id,
                group,
                Capture(hold.hold_id, True, over_use),
            )
        )
    return debits


def reversals_of(event: Chargeable) -> list[Reversal]:
    """What the wallet is asked to give back; the same event always gives the same keys."""
    return [
        Reversal(
            f"return:{event.receipt_id}:{place}",
            part.charge_id,
            part.asset,
            part.scale,
            part.atoms,
            event.event_id,
        )
        for place, part in enumerate(event.returns, 1)
    ]


def read_answers(event: Chargeable, answers: Sequence[Posted | Refused]) -> ChargeAnswer:
    """What the answers to an event's debits, in their order, mean for it."""
    faults = [answer for answer in answers if isinstance(answer, Refused)]
    if faults:
        cause = next((fault for fault in faults if fault.reason != "GROUP_REFUSED"), faults[0])
        return ChargeAnswer([None] * len(event.lines), _translate(cause, event))
    posted = iter(answers)
    lines: list[Posted | None] = []
    for line in event.lines:
        answer = next(posted) if line.atoms else None
        assert not isinstance(answer, Refused)
        lines.append(answer)
    return ChargeAnswer(lines, None)


def _translate(cause: Refused, event: Chargeable) -> Refused:
    """The wallet's reason in metering's words."""
    if cause.reason == "INSUFFICIENT_FUNDS":
        return cause
    if cause.reason == "SPEND_CAP_REACHED":
        return refused(SpendCapReached(cause))
    if cause.reason == "HOLD_ENDED" and event.authorization is not None:
        state = cause.facts.get("state", "")
        return refused(AuthorizationEnded(event.authorization.authorization_id, state))
    return refused(ChargeRefused(cause))
