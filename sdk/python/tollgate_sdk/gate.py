"""The gate around a block of code: authorize, run, report what was used, or give it back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import ClassVar

import grpc
from google.protobuf.duration_pb2 import Duration

from tollgate.metering.v1 import event_pb2, gate_pb2
from tollgate.type.v1 import amount_pb2
from tollgate_sdk.backlog import Delivery
from tollgate_sdk.calls import Calls
from tollgate_sdk.errors import (
    Denied,
    GateAway,
    NotReported,
    ProducerError,
    Reason,
    TollgateError,
)
from tollgate_sdk.events import (
    GATE_AWAY,
    PROPERTIES_MAX,
    Properties,
    late_form,
    make_event,
    new_event_id,
    render_properties,
)
from tollgate_sdk.outstanding import Outstanding
from tollgate_sdk.producer import Producer
from tollgate_sdk.reporting import report_directly

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
    """The caller's choice for a gate that does not answer: `DENY`, or `ALLOW_UP_TO(…)`."""

    limit: Decimal | None = None
    asset: str = ""
    each: Decimal | None = None

    DENY: ClassVar[WhenAway]

    @classmethod
    def ALLOW_UP_TO(
        cls, limit: str | int | Decimal, asset: str, *, each: str | int | Decimal | None = None
    ) -> WhenAway:
        """Allow while what a customer used unauthorized, and is not settled yet, stays in a limit.

        `limit` is an amount of `asset` per customer. One use counts `each`; without it, the
        `maximum` that was asked for, which must be in the same asset. The sums are those of this
        client and start at zero with it. Needs a producer: what was allowed is reported later.
        """
        return cls(Decimal(limit), asset, Decimal(each) if each is not None else None)


WhenAway.DENY = WhenAway()


@dataclass(frozen=True, slots=True)
class UsageRequest:
    """Who wants to use what. Exactly one of `estimate` and `maximum` is given."""

    customer_id: str
    estimate: gate_pb2.UsageEstimate | None = None
    maximum: amount_pb2.Amount | None = None
    name: str = ""
    subject: str = ""
    feature: str = ""
    time_to_live: timedelta | None = None
    over_use: gate_pb2.OverUse.ValueType = gate_pb2.OVER_USE_UNSPECIFIED

    def __post_init__(self) -> None:
        if (self.estimate is None) == (self.maximum is None):
            raise ValueError("exactly one of estimate and maximum must be given")
        if self.maximum is not None and not self.name:
            raise ValueError("with maximum, name must say how the reported event is called")

    @property
    def event_name(self) -> str:
        """How the event is called that reports the usage."""
        return self.name or (self.estimate.name if self.estimate is not None else "")

    def message(self) -> gate_pb2.AuthorizeUsageRequest:
        """The request under a key of its own, so that repeating it holds funds once."""
        request = gate_pb2.AuthorizeUsageRequest(
            request_id=new_event_id(),
            customer_id=self.customer_id,
            subject=self.subject,
            feature=self.feature,
            estimate=self.estimate,
            maximum=self.maximum,
            over_use=self.over_use,
        )
        if self.time_to_live is not None:
            lasting = Duration()
            lasting.FromTimedelta(self.time_to_live)
            request.time_to_live.CopyFrom(lasting)
        return request


class Usage:
    """Usage that may run. Call `report` with what was really used; without, nothing is charged."""

    def __init__(self, request: UsageRequest, authorization: gate_pb2.Authorization | None) -> None:
        self.authorization = authorization
        """What was set aside; None where it was allowed while the gate was away."""
        self.delivery: Delivery | None = None
        """After the block, where a producer reports: await it for the outcome."""
        self.outcome: event_pb2.EventOutcome | None = None
        """After the block, where it was reported directly."""
        self._request = request
        self._event: event_pb2.Event | None = None

    @property
    def allowed_while_away(self) -> bool:
        """Whether nobody was asked; the report is marked with `tollgate_late` = `gate_away`."""
        return self.authorization is None

    @property
    def event(self) -> event_pb2.Event | None:
        """What will be reported at the end of the block."""
        return self._event

    def report(
        self,
        properties: Properties | None = None,
        *,
        event_time: datetime | None = None,
        event_id: str = "",
    ) -> None:
        """Say what was used: int, Decimal or decimal strings, at most 49 properties.

        It is sent when the block ends; of several reports the last one stands.
        """
        rendered = render_properties(properties or {})
        if len(rendered) > PROPERTIES_MAX:
            raise ValueError(f"{len(rendered)} properties; takes at most {PROPERTIES_MAX}")
        authorization = self.authorization
        event = make_event(
            self._request.event_name,
            self._request.customer_id,
            rendered,
            subject=self._request.subject,
            event_time=event_time,
            event_id=event_id,
            authorization_id=authorization.authorization_id if authorization else "",
        )
        self._event = event if authorization else late_form(event, GATE_AWAY)

    def withdraw(self) -> None:
        """Take the report back: nothing was used after all."""
        self._event = None


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
            self._pass_unasked("DEADLINE_EXCEEDED")
        except TollgateError as error:
            if error.code not in AWAY:
                raise
            self._pass_unasked(error.code.name)
        else:
            if answer.WhichOneof("answer") != "allowed":
                reasons = [Reason.of(each) for each in answer.denied.reasons]
                raise Denied(self._request.customer_id, reasons)
            self._usage = Usage(self._request, answer.allowed)
            return self._usage
        self._usage = Usage(self._request, None)
        return self._usage

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

    def _pass_unasked(self, code: str) -> None:
        """Return where the caller's choice lets usage pass that nobody authorized."""
        choice, customer_id = self._when_away, self._request.customer_id
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
        if usage.authorization is not None:
            return lambda: None
        customer_id, asset = self._request.customer_id, self._when_away.asset
        return lambda: self._outstanding.give_back(customer_id, asset, self._worth)


def _worth(request: UsageRequest, choice: WhenAway, producer: Producer | None) -> Decimal:
    """What one use counts while the gate is away. Mistakes are told now, not when it is away."""
    if choice.limit is None:
        return Decimal(0)
    if producer is None:
        raise ValueError("ALLOW_UP_TO needs a producer: what was allowed is reported later")
    if choice.each is not None:
        return choice.each
    if request.maximum is None or request.maximum.asset != choice.asset:
        raise ValueError(f"ALLOW_UP_TO needs each, or a maximum in {choice.asset}")
    return Decimal(request.maximum.value)
