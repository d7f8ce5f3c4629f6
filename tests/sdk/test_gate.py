"""The gate around a block of code: captured, given back, denied, and when nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.metering.world import ACCEPTED
from tests.sdk.conftest import Site, turns
from tests.support.waiting import until
from tollgate.metering.v1 import event_pb2, gate_pb2
from tollgate_sdk import (
    LATE_PROPERTY,
    Authorized,
    Delivery,
    Denied,
    GateAway,
    Limits,
    NotReported,
    Producer,
    TollgateError,
    Usage,
    WhenAway,
    make_amount,
    make_estimate,
    make_event,
)

CALL = make_estimate("call")
QUICK = Limits(backoff_seconds_max=0.2)


@asynccontextmanager
async def producing(site: Site, journal: Path) -> AsyncIterator[Producer]:
    async with site.tollgate.producer(folder=journal, limits=QUICK) as producer:
        yield producer


async def state_of(site: Site, authorization: gate_pb2.Authorization | None) -> str:
    assert authorization is not None
    answer = await site.world.call(
        site.world.gate.GetAuthorization,
        gate_pb2.GetAuthorizationRequest(authorization_id=authorization.authorization_id),
    )
    return gate_pb2.AuthorizationState.Name(answer.authorization.state).rpartition("_")[2]


async def use_and_fail(authorized: Authorized, *, report: bool) -> Usage:
    """A block that raises, and the usage it had."""
    seen: list[Usage] = []

    async def use() -> None:
        async with authorized as usage:
            seen.append(usage)
            if report:
                usage.report()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    return seen[0]


async def stored(site: Site, event_id: str) -> event_pb2.Event:
    answer = await site.world.call(
        site.world.events.GetEvent, event_pb2.GetEventRequest(event_id=event_id)
    )
    assert isinstance(answer.event, event_pb2.Event)
    return answer.event


async def test_what_was_used_is_captured_directly_or_by_a_producer(
    site: Site, journal: Path
) -> None:
    async with site.tollgate.authorized(
        customer_id="acme", estimate=CALL, feature="chat", subject="agent-7"
    ) as usage:
        assert await site.world.balances("acme") == {"token": "999999"}
        assert not usage.allowed_while_away
        usage.report({"tokens": 5})
    assert usage.outcome is not None
    assert usage.outcome.state == ACCEPTED
    assert await state_of(site, usage.authorization) == "CAPTURED"
    event = await stored(site, usage.outcome.event_id)
    assert (event.subject, event.properties["tokens"]) == ("agent-7", "5")
    assert LATE_PROPERTY not in event.properties

    async with producing(site, journal) as producer:
        async with site.tollgate.authorized(
            customer_id="acme",
            maximum=make_amount(7, "token"),
            name="call",
            producer=producer,
            time_to_live=timedelta(minutes=1),
        ) as second:
            assert await site.world.balances("acme") == {"token": "999992"}
            second.report({"tokens": 5})
            second.report({"tokens": Decimal("6.5")}, event_id="mine")
        assert second.delivery is not None
        assert (await second.delivery).state == ACCEPTED
    assert (await stored(site, "mine")).properties["tokens"] == "6.5"
    assert await state_of(site, second.authorization) == "CAPTURED"
    assert await site.world.balances("acme") == {"token": "999998"}
    assert await site.world.verify() == 2


async def test_a_block_that_raises_or_reports_nothing_gives_back_what_was_held(
    site: Site,
) -> None:
    async with site.tollgate.authorized(customer_id="acme", estimate=CALL) as idle:
        pass
    async with site.tollgate.authorized(customer_id="acme", estimate=CALL) as withdrawn:
        withdrawn.report()
        withdrawn.withdraw()
    raised = site.tollgate.authorized(customer_id="acme", estimate=CALL)
    failed = await use_and_fail(raised, report=True)
    for usage in (idle, withdrawn, failed):
        assert await state_of(site, usage.authorization) == "VOIDED"
    assert await site.world.balances("acme") == {"token": "1000000"}
    assert await site.world.verify() == 0


async def test_a_block_that_raises_is_charged_where_the_caller_says_so(site: Site) -> None:
    first, second = (
        site.tollgate.authorized(customer_id="acme", estimate=CALL, report_when_raised=True)
        for _ in range(2)
    )
    used = await use_and_fail(first, report=True)
    idle = await use_and_fail(second, report=False)
    assert await state_of(site, used.authorization) == "CAPTURED"
    assert await state_of(site, idle.authorization) == "VOIDED"
    assert await site.world.verify() == 1


async def test_a_cancelled_block_gives_back_what_was_held(site: Site) -> None:
    entered: asyncio.Future[gate_pb2.Authorization | None] = asyncio.Future()

    async def use() -> None:
        async with site.tollgate.authorized(customer_id="acme", estimate=CALL) as usage:
            entered.set_result(usage.authorization)
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    authorization = await entered
    task.cancel()
    await turns(3)
    task.cancel()  # a second time, while it gives back

    async def voided() -> bool:
        return await state_of(site, authorization) == "VOIDED"

    await until(voided, what="the void of a cancelled block")
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_denial_carries_every_reason_and_its_facts(site: Site) -> None:
    await site.world.customer("poor", "prepaid", token="2")
    with pytest.raises(Denied) as short:
        async with site.tollgate.authorized(
            customer_id="poor", maximum=make_amount(3, "token"), name="call"
        ):
            raise AssertionError("must not run")
    assert not isinstance(short.value, GateAway)
    assert [reason.reason for reason in short.value.reasons] == ["INSUFFICIENT_FUNDS"]
    facts = short.value.facts
    assert (facts["asset"], facts["available"], facts["needed"]) == ("token", "2", "3")
    with pytest.raises(Denied) as missing:
        async with site.tollgate.authorized(customer_id="acme", estimate=CALL, feature="video"):
            raise AssertionError("must not run")
    assert missing.value.reasons[0].reason == "NOT_ENTITLED"
    assert missing.value.facts["feature"] == "video"


async def test_mistakes_of_the_caller_are_told_as_such(site: Site) -> None:
    with pytest.raises(TollgateError, match="INVALID_VALUE"):
        async with site.tollgate.authorized(customer_id="", estimate=CALL, when_away=WhenAway.DENY):
            raise AssertionError("must not run")
    with pytest.raises(ValueError, match="exactly one"):
        site.tollgate.authorized(customer_id="acme")
    with pytest.raises(ValueError, match="name must say"):
        site.tollgate.authorized(customer_id="acme", maximum=make_amount(1, "token"))
    allowing = WhenAway.ALLOW_UP_TO(5, "token")
    with pytest.raises(ValueError, match="needs a producer"):
        site.tollgate.authorized(customer_id="acme", estimate=CALL, when_away=allowing)
    with pytest.raises(ValueError, match="needs each"):
        site.tollgate.authorized(
            customer_id="acme",
            estimate=CALL,
            when_away=allowing,
            producer=site.tollgate.producer(),
        )
    async with site.tollgate.authorized(customer_id="acme", estimate=CALL) as usage:
        with pytest.raises(ValueError, match="at most 49"):
            usage.report({f"p{number}": number for number in range(50)})
        with pytest.raises(TypeError, match="not exact"):
            usage.report({"tokens": 1.5})  # type: ignore[dict-item]


async def test_a_gate_that_is_away_denies_by_default(site: Site) -> None:
    await site.metering.stop()
    with pytest.raises(GateAway) as away:
        async with site.tollgate.authorized(customer_id="acme", estimate=CALL, gate_seconds=0.3):
            raise AssertionError("must not run")
    assert [reason.reason for reason in away.value.reasons] == ["GATE_AWAY"]
    assert away.value.facts["code"] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


async def test_usage_allowed_while_the_gate_is_away_is_bounded_marked_and_charged_later(
    site: Site, journal: Path
) -> None:
    choice = WhenAway.ALLOW_UP_TO(5, "token", each=2)
    await site.metering.stop()
    async with producing(site, journal) as producer:

        def use(customer: str) -> Authorized:
            return site.tollgate.authorized(
                customer_id=customer,
                estimate=CALL,
                when_away=choice,
                producer=producer,
                gate_seconds=0.2,
            )

        deliveries: list[Delivery] = []
        for _ in range(2):
            async with use("acme") as usage:
                assert usage.allowed_while_away
                usage.report({"tokens": 1})
            assert usage.delivery is not None
            deliveries.append(usage.delivery)
        with pytest.raises(GateAway) as away:
            async with use("acme"):
                raise AssertionError("must not run: 4 of 5 are outstanding")
        facts = away.value.facts
        assert (facts["limit"], facts["outstanding"], facts["asset"]) == ("5", "4", "token")
        # Another customer has a limit of its own, and what is not used does not count.
        for _ in range(4):
            async with use("other"):
                pass

        await site.metering.start()
        outcomes = [await delivery for delivery in deliveries]
        assert {outcome.state for outcome in outcomes} == {ACCEPTED}
        for outcome in outcomes:
            event = await stored(site, outcome.event_id)
            assert event.authorization_id == ""
            assert event.properties[LATE_PROPERTY] == "gate_away"

        # Charged: no longer outstanding.
        await site.metering.stop()
        async with use("acme") as usage:
            usage.report()
        await site.metering.start()
    assert await site.world.verify() == 3
    assert await site.world.balances("acme") == {"token": "999997"}


async def test_a_maximum_says_itself_what_one_use_is_worth(site: Site, journal: Path) -> None:
    await site.metering.stop()
    async with producing(site, journal) as producer:
        for value, passes in ((3, True), (3, False), (2, True)):
            allowed = site.tollgate.authorized(
                customer_id="acme",
                maximum=make_amount(value, "token"),
                name="call",
                when_away=WhenAway.ALLOW_UP_TO(5, "token"),
                producer=producer,
                gate_seconds=0.2,
            )
            if passes:
                async with allowed as usage:
                    usage.report()
            else:
                with pytest.raises(GateAway):
                    await allowed.__aenter__()
        await site.metering.start()
    assert await site.world.verify() == 2


async def test_usage_that_cannot_be_reported_comes_back_as_a_complete_event(site: Site) -> None:
    producer = site.tollgate.producer()
    await producer.open()
    authorized = site.tollgate.authorized(customer_id="acme", estimate=CALL, producer=producer)
    usage = await authorized.__aenter__()
    usage.report({"tokens": 3})
    await producer.close()
    with pytest.raises(NotReported) as lost:
        await authorized.__aexit__(None, None, None)
    event = lost.value.event
    assert usage.authorization is not None
    assert event.authorization_id == usage.authorization.authorization_id
    async with site.tollgate.producer() as second:
        assert (await (await second.send(event))).state == ACCEPTED
    assert await site.world.verify() == 1


def test_quantities_are_exact() -> None:
    event = make_event("call", "acme", {"a": Decimal("1E-18"), "b": 10**15, "c": True, "d": "x"})
    assert dict(event.properties) == {
        "a": "0.000000000000000001",
        "b": "1000000000000000",
        "c": "true",
        "d": "x",
    }
    with pytest.raises(ValueError, match="not a quantity"):
        make_event("call", "acme", {"a": Decimal("NaN")})


async def test_use_is_captured_in_parts_and_what_is_left_is_given_back(site: Site) -> None:
    estimate = make_estimate("call", {"tokens": 40})
    async with site.tollgate.authorized(customer_id="acme", estimate=estimate) as usage:
        before = await site.world.balances("acme")
        part = await usage.capture({"tokens": 4})
        assert isinstance(part, event_pb2.EventOutcome)
        assert part.state == ACCEPTED
        assert await site.world.balances("acme") == before, "the rest stays set aside"
        assert await state_of(site, usage.authorization) == "OPEN"
    assert await state_of(site, usage.authorization) == "VOIDED"


async def test_an_authorization_is_extended_and_increased_from_the_block(site: Site) -> None:
    async with site.tollgate.authorized(
        customer_id="acme", estimate=make_estimate("call", {"tokens": 5})
    ) as usage:
        assert usage.authorization is not None
        ends = usage.authorization.expire_time.seconds
        await usage.extend(timedelta(hours=2))
        assert usage.authorization.expire_time.seconds > ends + 3_600
        assert usage.granted == {"tokens": "5"}
        assert [hold.amount.value for hold in usage.authorization.holds] == ["1"]
        await usage.increase(make_estimate("call", {"tokens": 7}))
        await usage.increase(make_amount("3", "token"))
        assert [hold.amount.value for hold in usage.authorization.holds] == ["5"]
        assert not usage.final_grant
        with pytest.raises(Denied) as denial:
            await usage.increase(make_amount("2000000", "token"))
        assert [r.reason for r in denial.value.reasons] == ["INSUFFICIENT_FUNDS"]
        assert denial.value.remedies[0].amount.asset == "token"
        usage.report({"tokens": 12})
    assert usage.outcome is not None
    assert usage.outcome.state == ACCEPTED


async def test_who_raises_is_told_the_failure_and_who_allows_reports_later(
    site: Site, journal: Path
) -> None:
    with pytest.raises(ValueError, match="needs a producer"):
        site.tollgate.authorized(customer_id="acme", estimate=CALL, when_away=WhenAway.ALLOW)
    async with producing(site, journal) as producer:
        await site.metering.stop()
        with pytest.raises(TollgateError):
            async with site.tollgate.authorized(
                customer_id="acme", estimate=CALL, when_away=WhenAway.RAISE, gate_seconds=0.5
            ):
                raise AssertionError("unreachable")
        async with site.tollgate.authorized(
            customer_id="acme",
            estimate=CALL,
            when_away=WhenAway.ALLOW,
            producer=producer,
            gate_seconds=0.5,
        ) as usage:
            assert usage.allowed_while_away
            assert (usage.granted, usage.final_grant) == ({}, False)
            await usage.extend(timedelta(hours=1))
            await usage.increase(CALL)
            await usage.capture({"tokens": 2})
            usage.report({"tokens": 3})
        assert producer.unsettled == 2
        await site.metering.start()
        await producer.flush()
    assert usage.delivery is not None
    event = await stored(site, usage.delivery.event_id)
    assert event.properties[LATE_PROPERTY] == "gate_away"
