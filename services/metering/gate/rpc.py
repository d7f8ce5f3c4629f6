"""GateService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from chassis.call import Call
from chassis.clocks import TenantClocks
from chassis.lanes import LaneFull
from chassis.metrics import Metrics
from chassis.streams import answer_in_turn
from chassis.wire import parse_request_id, parse_text, parse_uuid
from kernel.errors import InvalidValue, Kind, Refusal
from metering.authorizations.operations import Authorizations
from metering.charging.domain import refused
from metering.events.domain.event import BatchTooLarge
from metering.events.wire import ID_MAX
from metering.gate.domain.case import Ask
from metering.gate.operations import Gate
from metering.gate.wire import (
    find_time_to_live,
    parse_ask,
    parse_estimate,
    parse_increase,
    render_answer,
    render_authorization,
    render_denial,
    render_estimate,
    render_increase,
)
from tollgate.metering.v1 import gate_pb2

REQUESTS_MAX = 1_000
STREAMED_MAX = 4  # batches of one stream on their way at once
FULL_PAUSE_SECONDS = 0.05  # until a stream tries full lanes again


class GateService:
    """Answers the RPCs of tollgate.metering.v1.GateService."""

    def __init__(
        self, gate: Gate, authorizations: Authorizations, clocks: TenantClocks, metrics: Metrics
    ) -> None:
        self._gate = gate
        self._authorizations = authorizations
        self._clocks = clocks
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
        return gate_pb2.AuthorizeUsageBatchResponse(
            responses=await self._authorize_many(request.requests, call)
        )

    async def StreamAuthorizations(
        self, requests: AsyncIterator[gate_pb2.StreamAuthorizationsRequest], call: Call
    ) -> AsyncIterator[gate_pb2.StreamAuthorizationsResponse]:
        async def answer(
            request: gate_pb2.StreamAuthorizationsRequest,
        ) -> gate_pb2.StreamAuthorizationsResponse:
            present = await self._clocks.present(call)
            while True:
                try:
                    responses = await self._authorize_many(request.requests, present)
                except LaneFull:
                    # A stream waits where the lanes are full; what was answered stands by its key.
                    await asyncio.sleep(FULL_PAUSE_SECONDS)
                    continue
                return gate_pb2.StreamAuthorizationsResponse(responses=responses)

        async for response in answer_in_turn(requests, answer, STREAMED_MAX):
            yield response

    async def _authorize_many(
        self, requests: Sequence[gate_pb2.AuthorizeUsageRequest], call: Call
    ) -> list[gate_pb2.AuthorizeUsageResponse]:
        count = len(requests)
        if not count:
            raise InvalidValue("requests", "is required; takes 1 to 1000 requests")
        if count > REQUESTS_MAX:
            raise BatchTooLarge("requests", REQUESTS_MAX, count)
        asks: list[Ask] = []
        responses: list[gate_pb2.AuthorizeUsageResponse | None] = []
        for index, inner in enumerate(requests):
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
        return answered

    async def EstimateUsage(
        self, request: gate_pb2.EstimateUsageRequest, call: Call
    ) -> gate_pb2.EstimateUsageResponse:
        customer_id = parse_text(request.customer_id, "customer_id", maximum=ID_MAX)
        estimate = parse_estimate(request.estimate)
        return render_estimate(await self._gate.estimate(customer_id, estimate, call))

    async def ExtendAuthorization(
        self, request: gate_pb2.ExtendAuthorizationRequest, call: Call
    ) -> gate_pb2.ExtendAuthorizationResponse:
        lasting = find_time_to_live(request)
        if lasting is None:
            raise InvalidValue("time_to_live", "is required")
        return await self._authorizations.extend(
            parse_uuid(request.authorization_id, "authorization_id"),
            parse_request_id(request.request_id),
            lasting,
            call,
            request,
            gate_pb2.ExtendAuthorizationResponse,
            lambda extended: gate_pb2.ExtendAuthorizationResponse(
                authorization=render_authorization(extended)
            ),
        )

    async def IncreaseAuthorization(
        self, request: gate_pb2.IncreaseAuthorizationRequest, call: Call
    ) -> gate_pb2.IncreaseAuthorizationResponse:
        return await self._authorizations.increase(
            parse_uuid(request.authorization_id, "authorization_id"),
            parse_increase(request, call),
            request,
            gate_pb2.IncreaseAuthorizationResponse,
            render_increase,
            find_time_to_live(request),
        )

    async def VoidAuthorization(
        self, request: gate_pb2.VoidAuthorizationRequest, call: Call
    ) -> gate_pb2.VoidAuthorizationResponse:
        key = parse_uuid(request.authorization_id, "authorization_id")
        voided = await self._authorizations.void(key, call)
        return gate_pb2.VoidAuthorizationResponse(authorization=render_authorization(voided))

    async def GetAuthorization(
        self, request: gate_pb2.GetAuthorizationRequest, call: Call
    ) -> gate_pb2.GetAuthorizationResponse:
        key = parse_uuid(request.authorization_id, "authorization_id")
        found = await self._authorizations.get(key, call)
        return gate_pb2.GetAuthorizationResponse(authorization=render_authorization(found))


def _render(answer: object) -> gate_pb2.AuthorizeUsageResponse:
    """One answer of a batch: what makes a single request faulty denies it, and no more."""
    if isinstance(answer, Refusal) and answer.kind not in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME):
        return render_denial([refused(answer)])
    if isinstance(answer, Exception):
        raise answer
    return render_answer(answer)  # type: ignore[arg-type]
