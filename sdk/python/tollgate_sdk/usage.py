"""Usage behind the gate: what was asked, what was granted, and what becomes of it meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from tollgate.metering.v1 import event_pb2, gate_pb2
from tollgate.type.v1 import amount_pb2
from tollgate_sdk.backlog import Delivery
from tollgate_sdk.calls import Calls
from tollgate_sdk.errors import NotReported, ProducerError, TollgateError, denied
from tollgate_sdk.events import (
    GATE_AWAY,
    PROPERTIES_MAX,
    Properties,
    late_form,
    make_event,
    new_event_id,
    render_properties,
)
from tollgate_sdk.producer import Producer
from tollgate_sdk.reporting import report_directly


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
    node: str = ""
    partial_allowed: bool = False
    quantity_property: str = ""

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
            node=self.node,
            partial_allowed=self.partial_allowed,
            quantity_property=self.quantity_property,
        )
        if self.time_to_live is not None:
            lasting = Duration()
            lasting.FromTimedelta(self.time_to_live)
            request.time_to_live.CopyFrom(lasting)
        return request


class Usage:
    """Usage that may run. Call `report` with what was really used; without, nothing is charged."""

    def __init__(
        self,
        request: UsageRequest,
        authorization: gate_pb2.Authorization | None,
        calls: Calls,
        producer: Producer | None,
    ) -> None:
        self._calls = calls
        self._producer = producer
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
        self._event = self._make(properties, event_time, event_id)

    @property
    def granted(self) -> dict[str, str]:
        """The properties of the usage that was granted; with `partial_allowed` maybe less than was
        asked. Empty where an amount was asked for, or nobody was asked."""
        return dict(self.authorization.granted.properties) if self.authorization else {}

    @property
    def final_grant(self) -> bool:
        """Whether this is the last quota: end the use when it is used up."""
        return self.authorization is not None and self.authorization.final_grant

    async def capture(
        self,
        properties: Properties | None = None,
        *,
        event_time: datetime | None = None,
        event_id: str = "",
    ) -> Delivery | event_pb2.EventOutcome:
        """Report a part of the use now and keep the rest set aside; answers the delivery where a
        producer reports, else the outcome. Raises as the end of the block does."""
        event = self._make(properties, event_time, event_id)
        event.authorization_continues = bool(event.authorization_id)
        try:
            if self._producer is not None:
                return await self._producer.send(event)
            return await report_directly(self._calls, event)
        except (TollgateError, ProducerError) as error:
            raise NotReported(event, error) from error

    async def extend(self, time_to_live: timedelta) -> None:
        """Let the authorization last so long from now; it is never shortened. Raises TollgateError.
        Nothing happens where nobody was asked."""
        if self.authorization is None:
            return
        request = gate_pb2.ExtendAuthorizationRequest(
            request_id=new_event_id(), authorization_id=self.authorization.authorization_id
        )
        request.time_to_live.FromTimedelta(time_to_live)
        answer = await self._calls.call(self._calls.gate.ExtendAuthorization, request)
        self.authorization = answer.authorization

    async def increase(
        self,
        more: gate_pb2.UsageEstimate | amount_pb2.Amount,
        *,
        time_to_live: timedelta | None = None,
        partial_allowed: bool = False,
    ) -> None:
        """Set more aside, beyond what is granted. Raises Denied, and all stays as it was; or
        TollgateError. Nothing happens where nobody was asked."""
        if self.authorization is None:
            return
        request = gate_pb2.IncreaseAuthorizationRequest(
            request_id=new_event_id(),
            authorization_id=self.authorization.authorization_id,
            estimate=more if isinstance(more, gate_pb2.UsageEstimate) else None,
            maximum=more if isinstance(more, amount_pb2.Amount) else None,
            partial_allowed=partial_allowed,
            quantity_property=self._request.quantity_property if partial_allowed else "",
        )
        if time_to_live is not None:
            request.time_to_live.FromTimedelta(time_to_live)
        answer = await self._calls.call(self._calls.gate.IncreaseAuthorization, request)
        if answer.WhichOneof("answer") != "allowed":
            raise denied(self._request.customer_id, answer.denied)
        self.authorization = answer.allowed

    def _make(
        self, properties: Properties | None, event_time: datetime | None, event_id: str
    ) -> event_pb2.Event:
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
            node=self._request.node,
        )
        return event if authorization else late_form(event, GATE_AWAY)

    def withdraw(self) -> None:
        """Take the report back: nothing was used after all."""
        self._event = None
