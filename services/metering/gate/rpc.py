"""GateService."""

from __future__ import annotations

import time

from chassis.call import Call
from chassis.metrics import Metrics
from chassis.wire import parse_text, parse_uuid
from kernel.errors import InvalidValue, Kind, Refusal
from metering.charging.domain import refused
from metering.events.domain.event import BatchTooLarge
from metering.events.wire import ID_MAX
from metering.gate.operations import Ask, Gate
from metering.gate.wire import (
    parse_ask,
    parse_estimate,
    render_answer,
    render_authorization,
    render_denial,
    render_estimate,
)
from tollgate.metering.v1 import gate_pb2

REQUESTS_MAX = 1_000


class GateService:
    """Answers the RPCs of tollgate.metering.v1.GateService."""

    def __init__(self, gate: Gate, metrics: Metrics) -> None:
        self._gate = gate
        self._durations = metrics.authorize_duration_seconds.of()
        self._answers = {
            answer: metrics.authorizations_total.of(answer) for answer in ("allowed", "denied")
        }

    async def AuthorizeUsage(
        self, request: gate_pb2.AuthorizeUsageRequest, call: Call
    ) -> gate_pb2.AuthorizeUsageResponse:
        started = time.perf_counter()
        response = render_answer(await self._gate.authorize(parse_ask(request, call)))
        self._durations.observe(time.perf_counter() - started)
        self._count(response)
        return response

    def _count(self, response: gate_pb2.AuthorizeUsageResponse) -> None:
        self._answers["denied" if response.HasField("denied") else "allowed"].add()

    async def AuthorizeUsageBatch(
        self, request: gate_pb2.AuthorizeUsageBatchRequest, call: Call
    ) -> gate_pb2.AuthorizeUsageBatchResponse:
        count = len(request.requests)
        if not count:
            raise InvalidValue("requests", "is required; takes 1 to 1000 requests")
        if count > REQUESTS_MAX:
            raise BatchTooLarge("requests", REQUESTS_MAX, count)
        asks: list[Ask] = []
        responses: list[gate_pb2.AuthorizeUsageResponse | None] = []
        for index, inner in enumerate(request.requests):
            try:
                asks.append(parse_ask(inner, call))
                responses.append(None)
            except InvalidValue as error:
                responses.append(render_denial([refused(error.inside(f"requests[{index}]"))]))
        answers = iter(await self._gate.authorize_many(asks))
        answered = [
            _render(next(answers)) if response is None else response for response in responses
        ]
        for response in answered:
            self._count(response)
        return gate_pb2.AuthorizeUsageBatchResponse(responses=answered)

    async def EstimateUsage(
        self, request: gate_pb2.EstimateUsageRequest, call: Call
    ) -> gate_pb2.EstimateUsageResponse:
        customer_id = parse_text(request.customer_id, "customer_id", maximum=ID_MAX)
        estimate = parse_estimate(request.estimate)
        return render_estimate(await self._gate.estimate(customer_id, estimate, call))

    async def VoidAuthorization(
        self, request: gate_pb2.VoidAuthorizationRequest, call: Call
    ) -> gate_pb2.VoidAuthorizationResponse:
        key = parse_uuid(request.authorization_id, "authorization_id")
        voided = await self._gate.void(key, call)
        return gate_pb2.VoidAuthorizationResponse(authorization=render_authorization(voided))

    async def GetAuthorization(
        self, request: gate_pb2.GetAuthorizationRequest, call: Call
    ) -> gate_pb2.GetAuthorizationResponse:
        key = parse_uuid(request.authorization_id, "authorization_id")
        found = await self._gate.get(key, call)
        return gate_pb2.GetAuthorizationResponse(authorization=render_authorization(found))


def _render(answer: object) -> gate_pb2.AuthorizeUsageResponse:
    """One answer of a batch: what makes a single request faulty denies it, and no more."""
    if isinstance(answer, Refusal) and answer.kind not in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME):
        return render_denial([refused(answer)])
    if isinstance(answer, Exception):
        raise answer
    return render_answer(answer)  # type: ignore[arg-type]
