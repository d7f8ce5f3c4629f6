"""What became of a correction, told from its draft or from what is stored of it."""

from __future__ import annotations

from collections.abc import Mapping

from kernel.errors import Refusal
from metering.charging.domain import charge_of, refused
from metering.corrections.domain.deciding import Draft
from metering.corrections.domain.revision import (
    Correction,
    CorrectionOutcome,
    History,
    Returned,
    Revision,
    RevisionKind,
    RevisionState,
)
from metering.events.domain.event import Charge
from metering.settlement.domain import ChargeAnswer
from metering.usage.domain import UsageName


def outcome_of_refusal(correction: Correction, refusal: Refusal) -> CorrectionOutcome:
    """Nothing was done."""
    return CorrectionOutcome(
        correction.event_id, RevisionState.INVALID, 0, [], [], refused(refusal), False
    )


def outcome_of_draft(
    draft: Draft, answer: ChargeAnswer | None, is_pending: bool
) -> CorrectionOutcome:
    """The outcome of a correction that was just stored."""
    event_id = draft.history.origin.event.event_id
    number = len(draft.history.revisions) + 1
    if answer is not None and answer.refusal is not None:
        return CorrectionOutcome(
            event_id, RevisionState.REJECTED, number, [], [], answer.refusal, False
        )
    charges = []
    for place, line in enumerate(draft.lines):
        running = line.running
        if not line.atoms:
            continue
        posted = answer.lines[place] if answer is not None else None
        charges.append(
            Charge(
                charge_of(draft.receipt_id, place + 1),
                running.price_id,
                running.subscription_item_id,
                running.meter,
                line.quantity,
                running.asset,
                running.scale,
                line.atoms,
                posted.shortfall if posted is not None else 0,
                posted.available if posted is not None else "",
            )
        )
    kept = {one.charge_id for one in answer.unreturned} if answer is not None else set()
    returns = [
        Returned(charge_id, *draft.scales[refund.number], atoms)
        for refund in draft.refunds
        for charge_id, atoms in refund.parts
        if charge_id not in kept
    ]
    state = RevisionState.PENDING if is_pending else RevisionState.APPLIED
    return CorrectionOutcome(event_id, state, number, charges, returns, None, False)


def outcome_of_revision(
    revision: Revision,
    history: History,
    usages: Mapping[tuple[str, int], UsageName],
    is_pending: bool,
) -> CorrectionOutcome:
    """The outcome of a stored revision. `usages` are by customer and number."""
    event_id = history.origin.event.event_id
    row = None
    if revision.kind is not RevisionKind.DEPRECATION:
        row = history.rows[revision.receipt_id]
    if revision.state is RevisionState.REJECTED:
        why = row.refusal if row is not None else None
        return CorrectionOutcome(
            event_id, RevisionState.REJECTED, revision.number, [], [], why, False
        )
    charges = []
    for place, line in enumerate(row.lines if row is not None else [], 1):
        of = usages[revision.customer_id, line.number]
        if line.atoms:
            charges.append(
                Charge(
                    charge_of(revision.receipt_id, place),
                    of.price_id,
                    of.subscription_item_id,
                    of.meter,
                    line.quantity,
                    of.asset,
                    of.scale,
                    line.atoms,
                    line.shortfall,
                    "",
                )
            )
    returns = []
    for refund in revision.refunds:
        of = usages[revision.customer_id, refund.number]
        returns += [Returned(key, of.asset, of.scale, atoms) for key, atoms in refund.parts]
    waits = is_pending and bool(charges or returns)
    state = RevisionState.PENDING if waits else RevisionState.APPLIED
    return CorrectionOutcome(event_id, state, revision.number, charges, returns, None, False)
