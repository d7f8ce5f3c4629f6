"""What events take of the authorizations that they name."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chassis.database import Connection
from metering.events.domain.decision import Record
from metering.gate import store as gate
from metering.gate.domain.authorization import Authorization, AuthorizationState
from metering.usage import store as usage


async def use(tx: Connection, tenant_id: UUID, named: Sequence[Record]) -> None:
    """Capture what events end, and take what the others used off what is set aside."""
    left: dict[UUID, Authorization] = {}
    captured: list[UUID] = []
    for record in named:
        authorization = record.authorization
        assert authorization is not None
        key = authorization.authorization_id
        if not record.match.event.continues:
            captured.append(key)
            left.pop(key, None)
            continue
        parts = [
            (line.running.subscription_item_id, line.running.price_id,
             line.running.stretch.period.start, usage.read_number(line.quantity), line.atoms)
            for line in record.lines
        ]  # fmt: skip
        counted = [(meter.code, value) for meter, value in record.match.measures]
        left[key] = left.get(key, authorization).less(parts, counted)
    if captured:
        await gate.save_state(tx, tenant_id, captured, AuthorizationState.CAPTURED)
    if left:
        await gate.save_reserved(tx, tenant_id, list(left.values()))
