"""The gate around a block of code: authorize, run, report what was used, or give it back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import ClassVar

import grpc

from tollgate.metering.v1 import event_pb2, gate_pb2
from tollgate_sdk.calls import Calls
from tollgate_sdk.errors import (
    GateAway,
    NotReported,
    ProducerError,
    Reason,
    TollgateError,
    denied,
)
from tollgate_sdk.outstanding import Outstanding
from tollgate_sdk.producer import Producer
from tollgate_sdk.reporting import report_directly
from tollgate_sdk.usage import Usage as Usage
from tollgate_sdk.usage import UsageRequest as UsageRequest

GATE_SECONDS = 2.0  # longer than a healthy gate ever takes, short enough for a caller to wait
VOID_SECONDS = 5.0  # what is not given back by then ends with the authorization's time

# Nobody said yes or no. Every other failure is a mistake of the caller's and is raised as it is.
AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)

log = logging.getLogger("tollgate_sdk.gate")


@dataclass(frozen=True, slots=True)
class WhenAway:
    """The caller's choice for a gate that does not answer.

    `DENY` raises GateAway, which is a Denied; `RAISE` raises the TollgateError as it came, for
    callers that tell a no from no answer; `ALLOW` lets usage run, and `ALLOW_UP_TO(…)` does so
    within a limit. What was allowed is reported later, so both need a producer; with a folder it
    is on disk until it is.
    """

    limit: Decimal | None = None
    asset: str = ""
    each: Decimal | None = None
    allows: bool = False
    raises: bool = False

    DENY: ClassVar[WhenAway]
    RAISE: ClassVar[WhenAway]
    ALLOW: ClassVar[WhenAway]

    @classmethod
    def ALLOW_UP_TO(
        cls, limit: str | int | Decimal, asset: str, *, each: str | int | Decimal | None = None
    ) -> WhenAway:
        """Allow while what a customer used unauthorized, and is not settled yet, stays in a limit.

        `limit` is an amount of `asset` per customer. One use counts `each`; without it, the
        `maximum` that was asked for, which must be in the same asset. The sums are those of this
        client and start at zero with it. Needs a producer: what was allowed is reported later.
        """
        value = Decimal(each) if each is not None else None
        return cls(Decimal(limit), asset, value, allows=True)


WhenAway.DENY = WhenAway()
WhenAway.RAISE = WhenAway(raises=True)
WhenAway.ALLOW = WhenAway(allows=True)


class Authorized:
    """`async with tollgate.authorized(…) as usage:` asks the gate, runs the block, reports.

    Entering raises Denied, with reasons and facts; GateAway, which is a Denied, where nobody
    answered within `gate_seconds` and `when_away` does not let it pass; or TollgateError where the
    request is wrong. At the end, what `usage.report` said is reported under the authorization:
    through the `producer`, else directly. It is given back where the block raises (unless
    `report_when_raised` and it had reported) or reports nothing. A report that cannot be handed
    over raises NotReported, which holds the event.
    """

    def __init__(
        self,
        calls: Calls,
        request: UsageRequest,
        *,
        when_away: WhenAway,
        report_when_raised: bool,
        producer: Producer | None,
        gate_seconds: float,
        outstanding: Outstanding,
    ) -> None:
        self._calls = calls
        self._request = request
        self._when_away = when_away
        self._report_when_raised = report_when_raised
        self._producer = producer
        self._gate_seconds = gate_seconds
        self._outstanding = outstanding
        self._worth = _worth(request, when_away, producer)
        self._usage: Usage | None = None
        self._ending: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Usage:
        message = self._request.message()
        try:
            async with asyncio.timeout(self._gate_seconds):
                answer = await self._calls.call(
                    self._calls.gate.AuthorizeUsage,
                    message,
                    seconds=self._gate_seconds,
                    retry_seconds=self._gate_seconds,
                )
        except TimeoutError:
            late = grpc.StatusCode.DEADLINE_EXCEEDED
            self._pass_unasked(TollgateError(late, "", "the gate did not answer in time", {}))
        except TollgateError as error:
            if error.code not in AWAY:
                raise
            self._pass_unasked(error)
        else:
            if answer.WhichOneof("answer") != "allowed":
                raise denied(self._request.customer_id, answer.denied)
            self._usage = self._use(answer.allowed)
            return self._usage
        self._usage = self._use(None)
        return self._usage

    def _use(self, authorization: gate_pb2.Authorization | None) -> Usage:
        return Usage(self._request, authorization, self._calls, self._producer)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        usage = self._usage
        assert usage is not None
        event = usage.event if error is None or self._report_when_raised else None
        ending = self._give_back(usage) if event is None else self._report(usage, event)
        # Finished even where the task is cancelled meanwhile: funds would stay held without use.
        self._ending = asyncio.ensure_future(ending)
        await asyncio.shield(self._ending)

    def _pass_unasked(self, error: TollgateError) -> None:
        """Return where the caller's choice lets usage pass that nobody authorized."""
        choice, customer_id, code = self._when_away, self._request.customer_id, error.code.name
        if choice.raises:
            raise error
        if choice.allows and choice.limit is None:
            log.warning(
                "the gate is away (%s): usage of customer %s runs unauthorized", code, customer_id
            )
            return
        facts = {"code": code}
        if choice.limit is not None:
            if self._outstanding.take(customer_id, choice.asset, self._worth, choice.limit):
                log.warning(
                    "the gate is away (%s): usage of customer %s worth %s %s runs unauthorized",
                    code, customer_id, self._worth, choice.asset,
                )  # fmt: skip
                return
            outstanding = self._outstanding.of(customer_id, choice.asset)
            facts |= {
                "limit": str(choice.limit),
                "outstanding": str(outstanding),
                "asset": choice.asset,
            }
        raise GateAway(customer_id, [Reason("GATE_AWAY", "the gate did not answer", facts)])

    async def _report(self, usage: Usage, event: event_pb2.Event) -> None:
        try:
            if self._producer is None:
                usage.outcome = await report_directly(self._calls, event)
                return
            usage.delivery = await self._producer.send(event)
        except (TollgateError, ProducerError) as error:
            self._forget(usage)()
            raise NotReported(event, error) from error
        forget = self._forget(usage)
        usage.delivery.answered.add_done_callback(lambda _: forget())

    async def _give_back(self, usage: Usage) -> None:
        if usage.authorization is None:
            self._forget(usage)()
            return
        authorization_id = usage.authorization.authorization_id
        request = gate_pb2.VoidAuthorizationRequest(authorization_id=authorization_id)
        try:
            await self._calls.call(
                self._calls.gate.VoidAuthorization,
                request,
                seconds=VOID_SECONDS,
                retry_seconds=VOID_SECONDS,
            )
        except TollgateError as error:
            # Not raised: it would hide what the block raised, and the hold ends with its time.
            log.warning("authorization %s is not voided and will expire: %s",
                        authorization_id, error)  # fmt: skip

    def _forget(self, usage: Usage) -> Callable[[], None]:
        """What takes this use off the outstanding sum, where it is in it."""
        if usage.authorization is not None or self._when_away.limit is None:
            return lambda: None
        customer_id, asset = self._request.customer_id, self._when_away.asset
        return lambda: self._outstanding.give_back(customer_id, asset, self._worth)


def _worth(request: UsageRequest, choice: WhenAway, producer: Producer | None) -> Decimal:
    """What one use counts while the gate is away. Mistakes are told now, not when it is away."""
    if choice.allows and producer is None:
        raise ValueError("to allow needs a producer: what was allowed is reported later")
    if choice.limit is None:
        return Decimal(0)
    if choice.each is not None:
        return choice.each
    if request.maximum is None or request.maximum.asset != choice.asset:
        raise ValueError(f"ALLOW_UP_TO needs each, or a maximum in {choice.asset}")
    return Decimal(request.maximum.value)
