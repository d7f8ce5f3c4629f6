"""The gate: an answer before usage runs, and funds that are there when it has."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.metering.world import ACCEPTED, INVALID, REJECTED, World, graduated, unit_price
from tests.support.waiting import until
from tollgate.invoicing.v1 import customer_pb2
from tollgate.metering.v1 import gate_pb2


async def prepaid(world: World, price: str = "1") -> None:
    """A meter of tokens, and a plan that grants "chat" and charges each token in USD."""
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("prepaid", {"tokens": unit_price("USD", price)}, features=["chat"])


def reasons(answer: gate_pb2.AuthorizeUsageResponse) -> list[str]:
    assert answer.WhichOneof("answer") == "denied", answer
    return [reason.reason for reason in answer.denied.reasons]


async def test_usage_is_captured_from_its_authorization_and_the_rest_released(
    world: World,
) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")

    answer = await world.authorize("acme", tokens="8")
    allowed = answer.allowed
    assert [(hold.amount.value, hold.available) for hold in allowed.holds] == [("8", "2")]
    assert await world.balances("acme") == {"USD": "2"}
    (outcome,) = await world.ingest(
        world.event("acme", authorization=allowed.authorization_id, tokens="5")
    )

    assert outcome.state == ACCEPTED
    assert outcome.charges[0].amount.value == "5"
    assert await world.balances("acme") == {"USD": "5"}
    found = await world.call(
        world.gate.GetAuthorization,
        gate_pb2.GetAuthorizationRequest(authorization_id=allowed.authorization_id),
    )
    assert found.authorization.state == gate_pb2.AUTHORIZATION_STATE_CAPTURED
    assert await world.verify() == 1


async def test_an_authorization_is_captured_once(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    await world.customer("other", "prepaid", USD="10")
    allowed = (await world.authorize("acme", tokens="3")).allowed
    named = allowed.authorization_id

    first, second, foreign = await world.ingest(
        world.event("acme", event_id="a", authorization=named, tokens="3"),
        world.event("acme", event_id="b", authorization=named, tokens="3"),
        world.event("other", event_id="c", authorization=named, tokens="3"),
    )
    (later,) = await world.ingest(
        world.event("acme", event_id="b", authorization=named, tokens="3")
    )
    (again,) = await world.ingest(
        world.event("acme", event_id="a", authorization=named, tokens="3")
    )

    assert (first.state, second.state, foreign.state) == (ACCEPTED, INVALID, INVALID)
    assert second.refusal.reason == later.refusal.reason == "AUTHORIZATION_ENDED"
    assert second.refusal.facts["state"] == "CAPTURED"
    assert foreign.refusal.reason == "AUTHORIZATION_MISMATCH"
    assert (again.state, again.duplicate) == (ACCEPTED, True)
    assert await world.balances("acme") == {"USD": "7"}
    assert await world.verify() == 1


async def test_usage_that_costs_nothing_releases_what_was_held(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("tiers", {"tokens": graduated("USD", ("10", "0"), ("", "1"))})
    await world.customer("acme", "tiers", USD="10")
    allowed = (await world.authorize("acme", tokens="14")).allowed
    assert allowed.holds[0].amount.value == "4"

    (outcome,) = await world.ingest(
        world.event("acme", authorization=allowed.authorization_id, tokens="2")
    )

    assert outcome.state == ACCEPTED
    assert await world.balances("acme") == {"USD": "10"}


async def test_every_reason_of_a_denial_is_told(world: World) -> None:
    await prepaid(world)
    await world.customer("poor", "prepaid", USD="3")
    await world.customer("planless", "", USD="3")
    await world.customer("walletless", "prepaid")

    short = await world.authorize("poor", tokens="4")
    assert reasons(short) == ["INSUFFICIENT_FUNDS"]
    facts = short.denied.reasons[0].facts
    assert (facts["asset"], facts["available"], facts["needed"]) == ("USD", "3", "4")
    assert reasons(await world.authorize("walletless", tokens="4")) == ["INSUFFICIENT_FUNDS"]
    assert reasons(await world.authorize("nobody", tokens="1")) == ["CUSTOMER_UNKNOWN"]
    assert reasons(await world.authorize("planless", tokens="1")) == ["NOT_ENTITLED"]
    assert reasons(await world.authorize("poor", name="unheard of")) == ["NOT_ENTITLED"]
    wrong = await world.authorize("poor", feature="video", tokens="1")
    assert reasons(wrong) == ["NOT_ENTITLED"]
    assert wrong.denied.reasons[0].facts["feature"] == "video"
    granted = await world.authorize("poor", feature="chat", tokens="1")
    assert granted.WhichOneof("answer") == "allowed"


async def test_a_suspended_customer_is_denied_once_the_message_has_come(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    assert (await world.authorize("acme", tokens="1")).WhichOneof("answer") == "allowed"
    await world.call(
        world.customers.SetCustomerSuspension,
        customer_pb2.SetCustomerSuspensionRequest(
            request_id=world.key("suspend"), customer_id="acme", suspended=True
        ),
    )

    async def is_denied() -> bool:
        answer = await world.authorize("acme", tokens="1")
        return answer.WhichOneof("answer") == "denied"

    await until(is_denied, what="the suspension")
    answer = await world.authorize("acme", tokens="1")
    assert reasons(answer) == ["CUSTOMER_SUSPENDED"]


async def test_the_same_request_gets_the_same_answer(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")

    first = await world.authorize("acme", request_id="once", tokens="6")
    again = await world.authorize("acme", request_id="once", tokens="6")
    denied = await world.authorize("acme", request_id="poor", tokens="6")
    wallet_id = await world.wallet("acme")
    await world.fund(wallet_id, "USD", "100")
    denied_again = await world.authorize("acme", request_id="poor", tokens="6")

    assert first == again
    assert denied == denied_again
    assert reasons(denied) == ["INSUFFICIENT_FUNDS"]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.authorize("acme", request_id="once", tokens="7")
    assert failure.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_concurrent_authorizations_never_grant_more_than_there_is(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="500")

    answers = await asyncio.gather(*(world.authorize("acme", tokens="75") for _ in range(20)))

    allowed = [answer for answer in answers if answer.WhichOneof("answer") == "allowed"]
    assert len(allowed) == 6
    assert await world.balances("acme") == {"USD": "50"}


async def test_a_voided_authorization_gives_back_its_funds_and_ends(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    allowed = (await world.authorize("acme", tokens="8")).allowed
    request = gate_pb2.VoidAuthorizationRequest(authorization_id=allowed.authorization_id)

    for _ in range(2):
        voided = await world.call(world.gate.VoidAuthorization, request)
        assert voided.authorization.state == gate_pb2.AUTHORIZATION_STATE_VOIDED
    assert await world.balances("acme") == {"USD": "10"}
    (outcome,) = await world.ingest(
        world.event("acme", authorization=allowed.authorization_id, tokens="1")
    )
    assert outcome.refusal.reason == "AUTHORIZATION_ENDED"
    assert outcome.refusal.facts["state"] == "VOIDED"


async def test_an_authorization_ends_by_its_time(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    allowed = (await world.authorize("acme", seconds=1, tokens="8")).allowed
    request = gate_pb2.GetAuthorizationRequest(authorization_id=allowed.authorization_id)

    async def has_expired() -> bool:
        found = await world.call(world.gate.GetAuthorization, request)
        state = found.authorization.state
        return bool(state == gate_pb2.AUTHORIZATION_STATE_EXPIRED)

    await until(has_expired, what="the expiry")
    (outcome,) = await world.ingest(
        world.event("acme", authorization=allowed.authorization_id, tokens="1")
    )
    assert outcome.refusal.reason == "AUTHORIZATION_ENDED"
    assert outcome.refusal.facts["state"] == "EXPIRED"


@pytest.mark.parametrize(
    ("over_use", "state", "shortfall", "left"),
    [
        (gate_pb2.OVER_USE_REJECT, REJECTED, "", "2"),
        (gate_pb2.OVER_USE_CLAMP, ACCEPTED, "7", "2"),
        (gate_pb2.OVER_USE_USE_AVAILABLE, ACCEPTED, "5", "0"),
        (gate_pb2.OVER_USE_FORCE, ACCEPTED, "0", "-5"),
    ],
)
async def test_usage_above_what_is_held_goes_as_the_caller_chose(
    world: World, over_use: gate_pb2.OverUse.ValueType, state: int, shortfall: str, left: str
) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    allowed = (await world.authorize("acme", over_use=over_use, tokens="8")).allowed

    (outcome,) = await world.ingest(
        world.event("acme", authorization=allowed.authorization_id, tokens="15")
    )

    assert outcome.state == state, outcome
    assert [charge.shortfall for charge in outcome.charges] == ([shortfall] if shortfall else [])
    assert await world.balances("acme") == {"USD": left}
    assert await world.verify() == 1


async def test_after_a_rejected_capture_the_authorization_may_be_used_again(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    answer = await world.authorize("acme", over_use=gate_pb2.OVER_USE_REJECT, tokens="8")
    named = answer.allowed.authorization_id

    (rejected,) = await world.ingest(world.event("acme", authorization=named, tokens="9"))
    (accepted,) = await world.ingest(world.event("acme", authorization=named, tokens="8"))

    assert (rejected.state, accepted.state) == (REJECTED, ACCEPTED)
    assert await world.balances("acme") == {"USD": "2"}
    assert await world.verify() == 2


async def test_open_authorizations_take_their_place_in_the_tiers(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("tiers", {"tokens": graduated("USD", ("10", "1"), ("", "2"))})
    await world.customer("acme", "tiers", USD="100")

    held = [
        (await world.authorize("acme", tokens="8")).allowed.holds[0].amount.value for _ in range(2)
    ]

    assert held == ["8", "14"]
    estimate = await world.call(
        world.gate.EstimateUsage,
        gate_pb2.EstimateUsageRequest(
            customer_id="acme",
            estimate=gate_pb2.UsageEstimate(name="call", properties={"tokens": "1"}),
        ),
    )
    assert [price.amount.value for price in estimate.prices] == ["2"]
    assert estimate.prices[0].wallet


async def test_a_stated_maximum_is_held_as_it_is(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    answer = await world.authorize("acme", maximum=("USD", "9.5"))
    assert answer.allowed.holds[0].amount.value == "9.5"
    assert await world.balances("acme") == {"USD": "0.5"}


async def test_usage_that_is_billed_on_the_invoice_needs_no_funds(world: World) -> None:
    await world.meter("tokens", value="tokens")
    await world.plan("arrears", {"tokens": unit_price("USD", "1")}, from_wallet=False)
    await world.customer("acme", "arrears")
    answer = await world.authorize("acme", tokens="1000000")
    assert answer.WhichOneof("answer") == "allowed"
    assert not answer.allowed.holds
    (outcome,) = await world.ingest(
        world.event("acme", authorization=answer.allowed.authorization_id, tokens="5")
    )
    assert outcome.state == ACCEPTED


async def test_a_batch_answers_each_request_for_itself(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")

    def request(key: str, tokens: str) -> gate_pb2.AuthorizeUsageRequest:
        estimate = gate_pb2.UsageEstimate(name="call", properties={"tokens": tokens})
        return gate_pb2.AuthorizeUsageRequest(request_id=key, customer_id="acme", estimate=estimate)

    answer = await world.call(
        world.gate.AuthorizeUsageBatch,
        gate_pb2.AuthorizeUsageBatchRequest(
            requests=[
                request("a", "6"),
                request("b", "6"),
                request("a", "6"),
                request("c", "minus one"),
                gate_pb2.AuthorizeUsageRequest(request_id="d", customer_id="acme"),
                request("e", "4"),
            ]
        ),
    )

    first, short, same, unusable, needless, last = answer.responses
    assert first.WhichOneof("answer") == last.WhichOneof("answer") == "allowed"
    assert same == first
    assert reasons(short) == ["INSUFFICIENT_FUNDS"]
    assert reasons(unusable) == ["PROPERTY_UNUSABLE"]
    assert reasons(needless) == ["INVALID_VALUE"]
    assert needless.denied.reasons[0].facts["field"] == "requests[4].need"
