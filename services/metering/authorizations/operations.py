"""What becomes of an authorization between its answer and its end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from chassis.call import Call
from chassis.database import Connection, Database, DatabaseUnavailable
from chassis.requests import claim, record
from kernel.errors import NotFound
from kernel.money import format_atoms
from metering.charging.domain import Held, HoldGrowth, Refused
from metering.gate import store
from metering.gate.domain.authorization import (
    Authorization,
    AuthorizationEnded,
    AuthorizationState,
    Granted,
    Hold,
)
from metering.gate.domain.case import Ask, Case, told
from metering.gate.operations import guards_of
from metering.gate.weighing.operations import Place, Want, Weighed, Weighing, hold_request
from metering.limits.domain import text_of
from metering.limits.store import LimitsMoved, pass_guards
from metering.usage.store import read_number

LIMITS_ATTEMPTS = 5  # an increase whose limits another answer moved is decided again

R = TypeVar("R", bound=Message)


class Answer(NamedTuple):
    """An increase: the authorization after it, or why it stays as it was."""

    authorization: Authorization | None
    reasons: tuple[Refused, ...]


class _Unclaimed(Exception):
    """Nobody answered the request before; what was claimed to find that out is let go."""


class Authorizations:
    """Single operations on authorizations."""

    def __init__(self, database: Database, weighing: Weighing) -> None:
        self._database = database
        self._weighing = weighing
        self._wallet = weighing.wallet

    async def get(self, authorization_id: UUID, call: Call) -> Authorization:
        """Look at one authorization. Raises NotFound."""
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_by_id(tx, call.tenant_id, [authorization_id])
        authorization = _existing(found.get(authorization_id), authorization_id)
        return authorization._replace(state=authorization.state_at(call.now))

    async def void(self, authorization_id: UUID, call: Call) -> Authorization:
        """Give back what an authorization set aside; voiding again is the same answer.

        Raises NotFound, AuthorizationEnded where it ended otherwise, and UNAVAILABLE where the
        wallet is away: it is voided then, and calling again releases its funds.
        """
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_by_id(tx, call.tenant_id, [authorization_id], lock=True)
            authorization = _existing(found.get(authorization_id), authorization_id)
            state = authorization.state_at(call.now)
            if state is AuthorizationState.OPEN:
                voided = AuthorizationState.VOIDED
                await store.save_state(tx, call.tenant_id, [authorization_id], voided)
            elif state is not AuthorizationState.VOIDED:
                raise AuthorizationEnded(authorization_id, state.name)
        hold_ids = [hold.hold_id for hold in authorization.holds]
        await self._wallet.void_holds(call.tenant_id, hold_ids, call)
        return authorization._replace(state=AuthorizationState.VOIDED)

    async def extend(
        self,
        authorization_id: UUID,
        request_id: str,
        lasting: timedelta,
        call: Call,
        request: Message,
        kind: type[R],
        render: Callable[[Authorization], R],
    ) -> R:
        """Let an authorization and its holds last longer; the same request has the same answer.

        Raises NotFound, AuthorizationEnded, IdempotencyConflict, and UNAVAILABLE where the wallet
        is away: its holds may last longer by then, and repeating the request goes on.
        """
        recorded = await self._recorded(call, request_id, request)
        if recorded is not None:
            return kind.FromString(recorded)
        authorization = await self._open(authorization_id, call)
        growths = [
            HoldGrowth(f"extend:{authorization_id}:{request_id}", h.hold_id, h.scale, 0, lasting)
            for h in authorization.holds
        ]
        grown = await self._grow(authorization_id, growths, call)
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request_id, request)
            if recorded is not None:
                return kind.FromString(recorded)
            authorization = await self._lock(tx, authorization_id, call)
            authorization = _lasting(authorization, lasting, call)
            holds = [
                hold._replace(available=held.available)
                for hold, held in zip(authorization.holds, grown, strict=True)
            ]
            authorization = authorization._replace(holds=tuple(holds))
            await store.save_change(tx, call.tenant_id, authorization)
            response = render(authorization)
            await record(tx, call.tenant_id, request_id, response)
            return response

    async def increase(
        self,
        authorization_id: UUID,
        ask: Ask,
        request: Message,
        kind: type[R],
        render: Callable[[Answer], R],
        lasting: timedelta | None,
    ) -> R:
        """Set more aside for an open authorization, or say why not; the same request has the same
        answer. `ask` is what it asks beyond what is granted.

        Raises NotFound, AuthorizationEnded, IdempotencyConflict, what makes the request itself
        faulty, and UNAVAILABLE. Where it needs several assets and one is refused, what was added in
        another stays with its hold until the authorization ends.
        """
        call, request_id = ask.call, ask.request_id
        recorded = await self._recorded(call, request_id, request)
        if recorded is not None:
            return kind.FromString(recorded)
        for _ in range(LIMITS_ATTEMPTS):
            authorization = await self._open(authorization_id, call)
            ask = ask._replace(
                customer_id=authorization.customer_id,
                feature=authorization.feature,
                over_use=authorization.over_use,
                node=authorization.node,
                time_to_live=max(lasting or timedelta(0), authorization.expire_time - call.now),
            )
            weighed = await self._weighing.weigh([ask], call)
            for fault in weighed.faults.values():
                assert isinstance(fault, Exception)
                raise fault
            kept = frozenset(hold.hold_id for hold in authorization.holds)
            placing = self._placing(authorization, lasting, call)
            await self._weighing.set_aside(weighed, placing, call, kept)
            try:
                return await self._keep(
                    authorization_id, request_id, weighed, lasting, call, request, kind, render
                )
            except LimitsMoved:
                continue
        raise DatabaseUnavailable("limits are moved faster than they can be decided")

    def _placing(
        self, authorization: Authorization, lasting: timedelta | None, call: Call
    ) -> Place:
        """Grow the holds that there are; place one in an asset that had none."""
        holds = {hold.asset: hold for hold in authorization.holds}

        async def place(wants: Sequence[Want]) -> list[Held | Refused]:
            outcomes: list[Held | Refused] = []
            for want in wants:
                hold = holds.get(want.asset)
                if hold is None:
                    outcomes += await self._wallet.place_holds(
                        call.tenant_id, [hold_request(want)], call
                    )
                    continue
                growth = HoldGrowth(
                    _growth_key(want), hold.hold_id, hold.scale, want.needed.atoms, lasting
                )
                outcomes += await self._wallet.increase_holds(call.tenant_id, [growth], call)
            for outcome in outcomes:
                _check_open(outcome, authorization.authorization_id)
            return outcomes

        return place

    async def _keep(
        self,
        authorization_id: UUID,
        request_id: str,
        weighed: Weighed,
        lasting: timedelta | None,
        call: Call,
        request: Message,
        kind: type[R],
        render: Callable[[Answer], R],
    ) -> R:
        (case,) = weighed.cases.values()
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request_id, request)
            if recorded is not None:
                return kind.FromString(recorded)
            answer = Answer(None, tuple(case.reasons))
            if not case.reasons:
                guards, windows = guards_of(weighed)
                if guards:
                    await pass_guards(tx, call.tenant_id, guards, windows)
                authorization = await self._lock(tx, authorization_id, call)
                authorization = _with(authorization, case)
                if lasting is not None:
                    authorization = _lasting(authorization, lasting, call)
                await store.save_change(tx, call.tenant_id, authorization)
                answer = Answer(authorization, ())
            response = render(answer)
            await record(tx, call.tenant_id, request_id, response)
            return response

    async def _open(self, authorization_id: UUID, call: Call) -> Authorization:
        authorization = await self.get(authorization_id, call)
        if authorization.state is not AuthorizationState.OPEN:
            raise AuthorizationEnded(authorization_id, authorization.state.name)
        return authorization

    async def _lock(self, tx: Connection, authorization_id: UUID, call: Call) -> Authorization:
        found = await store.list_by_id(tx, call.tenant_id, [authorization_id], lock=True)
        authorization = _existing(found.get(authorization_id), authorization_id)
        state = authorization.state_at(call.now)
        if state is not AuthorizationState.OPEN:
            raise AuthorizationEnded(authorization_id, state.name)
        return authorization

    async def _grow(
        self, authorization_id: UUID, growths: Sequence[HoldGrowth], call: Call
    ) -> list[Held]:
        grown: list[Held] = []
        for outcome in await self._wallet.increase_holds(call.tenant_id, growths, call):
            _check_open(outcome, authorization_id)
            assert isinstance(outcome, Held), outcome
            grown.append(outcome)
        return grown

    async def _recorded(self, call: Call, request_id: str, request: Message) -> bytes | None:
        """What the request was answered before, if it was. Raises IdempotencyConflict."""
        try:
            async with self._database.transaction(call.tenant_id) as tx:
                recorded = await claim(tx, call.tenant_id, request_id, request)
                if recorded is None:
                    raise _Unclaimed
                return recorded
        except _Unclaimed:
            return None


def _with(authorization: Authorization, case: Case) -> Authorization:
    """An authorization with what an increase granted."""
    holds = {hold.asset: hold for hold in authorization.holds}
    for asset, hold in case.holds.items():
        known = holds.get(asset)
        atoms = case.needed[asset].atoms + (known.atoms if known is not None else 0)
        holds[asset] = Hold(asset, hold.scale, hold.hold_id, atoms, hold.available)
    measured = dict(authorization.measured)
    for meter, quantity in case.limited.items():
        measured[meter] = text_of(read_number(measured.get(meter, "0")) + read_number(quantity))
    return authorization._replace(
        holds=tuple(holds.values()),
        reserved=(*authorization.reserved, *case.reserved),
        measured=tuple(measured.items()),
        granted=_granted(authorization, case),
        is_final=case.is_final,
        standings=tuple(told(each) for each in case.standings) or authorization.standings,
    )


def _granted(authorization: Authorization, case: Case) -> Granted | None:
    """All usage that is granted by now: the quantities that meters read are added up."""
    before, more = authorization.granted, case.estimate
    if before is None or more is None or before.name != more.name:
        return before
    read = {meter.value_property for meter, _ in case.measured.counted} - {""}
    properties = dict(before.properties)
    for name in read:
        total = read_number(properties.get(name, "0")) + read_number(more.properties[name])
        properties[name] = text_of(total)
    return Granted(before.name, properties)


def _lasting(authorization: Authorization, lasting: timedelta, call: Call) -> Authorization:
    later = max(authorization.expire_time, call.now + lasting)
    return authorization._replace(expire_time=later)


def _growth_key(want: Want) -> str:
    """The same increase, asked again after a crash, finds what it set aside."""
    said = f"{want.case.ask.request_id}\n{want.asset}\n{want.needed.atoms}"
    said += format_atoms(want.needed.atoms, want.needed.scale)
    digest = hashlib.blake2b(said.encode() + want.case.ask.fingerprint, digest_size=16)
    return f"increase:{digest.hexdigest()}"


def _check_open(outcome: Held | Refused, authorization_id: UUID) -> None:
    if isinstance(outcome, Refused) and outcome.reason == "HOLD_ENDED":
        raise AuthorizationEnded(authorization_id, outcome.facts.get("state", ""))


def _existing(found: Authorization | None, authorization_id: UUID) -> Authorization:
    if found is None or found.state is AuthorizationState.DENIED:
        raise NotFound("authorization", authorization_id)
    return found
