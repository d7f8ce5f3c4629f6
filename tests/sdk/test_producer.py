"""The producer against the running services: batches, order, retries, room, and what is told."""

from __future__ import annotations

import asyncio
import errno
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.metering.world import ACCEPTED, INVALID, REJECTED
from tests.sdk.conftest import Site, names, turns
from tests.support.waiting import until
from tollgate.metering.v1 import event_pb2, gate_pb2
from tollgate_sdk import (
    LATE_PROPERTY,
    BufferFull,
    EventTooLarge,
    JournalBroken,
    JournalLocked,
    Limits,
    NotDelivered,
    ProducerClosed,
    Tollgate,
    TollgateError,
    WhenFull,
    make_event,
    segments,
)
from tollgate_sdk.events import AUTHORIZATION_EXPIRED, late_form
from tollgate_sdk.journal import Journal

QUICK = Limits(backoff_seconds_max=0.2)


class Watched(Tollgate):
    """The client, with a record of the batches it sends and of how many are in flight."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.batches: list[list[event_pb2.Event]] = []
        self.in_flight = 0
        self.in_flight_max = 0

    async def call(self, method: Any, request: Any, **named: Any) -> Any:
        self.batches.append(list(request.events))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        try:
            return await super().call(method, request, **named)
        finally:
            self.in_flight -= 1


@asynccontextmanager
async def watched(site: Site) -> AsyncIterator[Watched]:
    async with Watched(site.endpoints, site.key) as client:
        yield client


async def test_a_thousand_events_go_in_few_batches_and_each_has_its_outcome(
    site: Site, journal: Path
) -> None:
    limits = Limits(batch_events=100, batches_in_flight=3)
    async with watched(site) as client, client.producer(folder=journal, limits=limits) as producer:
        deliveries = await asyncio.gather(
            *(
                producer.send(make_event("call", customer, {"number": number}))
                for number in range(500)
                for customer in ("acme", "other")
            )
        )
        outcomes = [await delivery for delivery in deliveries]
    assert {outcome.state for outcome in outcomes} == {ACCEPTED}
    assert [o.event_id for o in outcomes] == [delivery.event_id for delivery in deliveries]
    sizes = [len(batch) for batch in client.batches]
    assert (sum(sizes), max(sizes)) == (1_000, 100)
    assert len(sizes) <= 30
    assert client.in_flight_max <= 3
    assert await site.world.verify() == 1_000
    assert await site.world.quantity("acme", "calls") == "500"


async def test_a_customers_events_are_charged_in_the_order_in_which_they_were_sent(
    site: Site,
) -> None:
    limits = Limits(batch_events=7, batches_in_flight=4)
    async with site.tollgate.producer(limits=limits) as producer:
        sent = defaultdict(list)
        for number in range(200):
            customer = ("acme", "other")[number % 2]
            sent[customer].append(await producer.send(make_event("call", customer)))
        balances = {
            customer: [int((await delivery).charges[0].available) for delivery in deliveries]
            for customer, deliveries in sent.items()
        }
    expected = list(range(999_999, 999_899, -1))
    assert balances == {"acme": expected, "other": expected}


async def test_an_idle_producer_sends_after_its_linger_and_a_full_batch_at_once(
    site: Site,
) -> None:
    patient = Limits(batch_events=3, linger_ms=60_000)
    async with watched(site) as client, client.producer(limits=patient) as producer:
        await producer.send(make_event("call", "acme"))
        await producer.send(make_event("call", "acme"))
        await turns()
        assert client.batches == []
        third = await producer.send(make_event("call", "acme"))
        await third
        assert [len(batch) for batch in client.batches] == [3]
        await producer.send(make_event("call", "acme"))
        await producer.flush()
        assert [len(batch) for batch in client.batches] == [3, 1]
    async with watched(site) as client, client.producer(limits=Limits(linger_ms=1)) as producer:
        await (await producer.send(make_event("call", "acme")))


async def test_bytes_bound_a_batch_too(site: Site) -> None:
    limits = Limits(batch_octets=3_000, linger_ms=1_000)
    async with watched(site) as client, client.producer(limits=limits) as producer:
        for _ in range(12):
            await producer.send(make_event("call", "acme", {"text": "x" * 500}))
        await producer.flush()
    assert all(sum(event.ByteSize() for event in batch) <= 3_000 for batch in client.batches)
    assert sum(map(len, client.batches)) == 12


async def test_events_wait_for_a_service_that_is_away_and_are_charged_once(
    site: Site, journal: Path
) -> None:
    await site.metering.stop()
    async with site.tollgate.producer(folder=journal, limits=QUICK) as producer:
        first = [await producer.send(make_event("call", "acme")) for _ in range(20)]
        await until(lambda: producer.trouble, what="the producer's trouble")
        assert isinstance(producer.trouble, TollgateError)
        assert producer.trouble.code is grpc.StatusCode.UNAVAILABLE
        assert (producer.unsettled, first[0].done) == (20, False)
        await site.metering.start()
        assert {(await delivery).state for delivery in first} == {ACCEPTED}
        assert producer.trouble is None
        # Away while batches are in flight: what was answered and what was not is sent again alike.
        more = []
        for number in range(300):
            more.append(await producer.send(make_event("call", "acme")))
            if number == 100:
                await site.metering.stop()
            if number == 200:
                await site.metering.start()
        assert {(await delivery).state for delivery in more} == {ACCEPTED}
    assert await site.world.verify() == 320
    assert await site.world.balances("acme") == {"token": str(1_000_000 - 320)}


async def test_a_full_buffer_refuses_or_waits_as_the_caller_chose(
    site: Site, journal: Path
) -> None:
    await site.metering.stop()
    limits = Limits(buffer_events=3, backoff_seconds_max=0.2)
    async with site.tollgate.producer(folder=journal, limits=limits) as producer:
        for _ in range(3):
            await producer.send(make_event("call", "acme"))
        with pytest.raises(BufferFull) as full:
            await producer.send(make_event("call", "acme"), when_full=WhenFull.RAISE)
        assert full.value.events == 3
        waiting = asyncio.create_task(producer.send(make_event("call", "acme")))
        await turns()
        assert not waiting.done()
        await site.metering.start()
        assert (await (await waiting)).state == ACCEPTED
    assert await site.world.verify() == 4


async def test_what_is_not_accepted_is_told_and_holds_up_nobody(site: Site, journal: Path) -> None:
    await site.world.customer("poor", "prepaid", token="1")
    told: list[tuple[str, str]] = []

    def on_outcome(event: event_pb2.Event, outcome: event_pb2.EventOutcome) -> None:
        told.append((event.customer_id, event_pb2.EventState.Name(outcome.state)))

    producer = site.tollgate.producer(folder=journal, on_outcome=on_outcome)
    async with producer:
        customers = ["acme", "nobody", "poor", "poor", "acme"]
        sent = [await producer.send(make_event("call", customer)) for customer in customers]
        outcomes = [await delivery for delivery in sent]
    assert [o.state for o in outcomes] == [ACCEPTED, INVALID, ACCEPTED, REJECTED, ACCEPTED]
    assert outcomes[1].refusal.reason == "CUSTOMER_UNKNOWN"
    assert sorted(told) == [
        ("acme", "EVENT_STATE_ACCEPTED"),
        ("acme", "EVENT_STATE_ACCEPTED"),
        ("nobody", "EVENT_STATE_INVALID"),
        ("poor", "EVENT_STATE_ACCEPTED"),
        ("poor", "EVENT_STATE_REJECTED"),
    ]
    # What metering did not store is kept here, for a person to correct; what it stored is not.
    (line,) = (journal / "refused.jsonl").read_text().splitlines()
    kept = json.loads(line)
    assert kept["event"]["eventId"] == sent[1].event_id
    assert kept["outcome"]["refusal"]["reason"] == "CUSTOMER_UNKNOWN"
    assert names(journal) == ["lock", "refused.jsonl"]


async def test_a_charge_that_is_pending_is_asked_for_until_it_is_settled(site: Site) -> None:
    async with watched(site) as client, client.producer(limits=QUICK) as producer:
        await (await producer.send(make_event("call", "acme")))
        await site.wallet.stop()
        delivery = await producer.send(make_event("call", "acme"))
        await until(lambda: len(client.batches) >= 3, what="asking again")
        assert not delivery.done
        await site.wallet.start()
        outcome = await delivery
    assert outcome.state == ACCEPTED
    assert len({event.event_id for batch in client.batches[1:] for event in batch}) == 1
    assert await site.world.verify() == 2


async def test_a_refused_credential_loses_nothing(site: Site, journal: Path) -> None:
    async with Tollgate(site.endpoints, "tg_live_wrong") as stranger:
        producer = stranger.producer(folder=journal, limits=QUICK)
        async with producer:
            delivery = await producer.send(make_event("call", "acme"))
            await until(lambda: producer.trouble, what="the producer's trouble")
            assert isinstance(producer.trouble, TollgateError)
            assert producer.trouble.code is grpc.StatusCode.UNAUTHENTICATED
            assert await producer.close(drain_seconds=0) == 1
        with pytest.raises(NotDelivered):
            await delivery
    async with site.tollgate.producer(folder=journal) as producer:
        assert producer.unsettled == 1
        await producer.flush()
    assert await site.world.verify() == 1


async def test_closing_keeps_on_disk_or_reports_what_could_not_be_sent(
    site: Site, journal: Path
) -> None:
    await site.metering.stop()
    kept = site.tollgate.producer(folder=journal, limits=QUICK)
    lost = site.tollgate.producer(limits=QUICK)
    await kept.open()
    await lost.open()
    for _ in range(2):
        await kept.send(make_event("call", "acme"))
    await lost.send(make_event("call", "acme"))
    with pytest.raises(JournalLocked):
        await site.tollgate.producer(folder=journal).open()
    assert await kept.close(drain_seconds=0.05) == 2
    with pytest.raises(NotDelivered, match="1 events are lost"):
        await lost.close(drain_seconds=0.05)
    with pytest.raises(ProducerClosed):
        await kept.send(make_event("call", "acme"))
    await site.metering.start()
    async with site.tollgate.producer(folder=journal, limits=QUICK) as again:
        assert again.unsettled == 2
    assert again.unsettled == 0
    assert await site.world.verify() == 2


async def test_one_who_waits_for_room_is_told_when_the_producer_closes(site: Site) -> None:
    await site.metering.stop()
    producer = site.tollgate.producer(limits=Limits(buffer_events=1))
    await producer.open()
    await producer.send(make_event("call", "acme"))
    waiting = asyncio.create_task(producer.send(make_event("call", "acme")))
    await turns()
    with pytest.raises(NotDelivered):
        await producer.close(drain_seconds=0)
    with pytest.raises(ProducerClosed):
        await waiting


async def test_a_disk_that_takes_no_more_is_told_and_used_again_when_it_does(
    site: Site, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, content: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with site.tollgate.producer(folder=journal) as producer:
        with monkeypatch.context() as patched:
            patched.setattr(segments.os, "write", full)
            with pytest.raises(JournalBroken, match="No space left"):
                await producer.send(make_event("call", "acme"))
        assert producer.unsettled == 0
        assert (await (await producer.send(make_event("call", "acme")))).state == ACCEPTED
    assert await site.world.verify() == 1


async def test_an_event_that_no_batch_could_hold_is_refused_at_once(site: Site) -> None:
    async with site.tollgate.producer() as producer:
        with pytest.raises(EventTooLarge):
            await producer.send(make_event("call", "acme", {"text": "x" * 70_000}))
        assert producer.unsettled == 0


async def test_the_same_event_sent_twice_is_charged_once(site: Site) -> None:
    event = make_event("call", "acme", event_id="mine")
    async with site.tollgate.producer() as producer:
        first = await (await producer.send(event))
        second = await (await producer.send(event))
        other = await (await producer.send(make_event("call", "other", event_id="mine")))
    assert (first.duplicate, second.duplicate) == (False, True)
    assert (other.state, other.refusal.reason) == (INVALID, "EVENT_CONFLICT")
    assert await site.world.verify() == 1


async def test_usage_reported_after_its_authorization_expired_is_charged_and_marked(
    site: Site, journal: Path
) -> None:
    allowed = (await site.world.authorize("acme", seconds=1)).allowed
    request = gate_pb2.GetAuthorizationRequest(authorization_id=allowed.authorization_id)

    async def expired() -> bool:
        answer = await site.world.call(site.world.gate.GetAuthorization, request)
        return bool(answer.authorization.state == gate_pb2.AUTHORIZATION_STATE_EXPIRED)

    await until(expired, what="the authorization's end")
    event = make_event("call", "acme", authorization_id=allowed.authorization_id)
    async with site.tollgate.producer(folder=journal) as producer:
        outcome = await (await producer.send(event))
    assert outcome.state == ACCEPTED
    stored = await site.world.call(
        site.world.events.GetEvent, event_pb2.GetEventRequest(event_id=event.event_id)
    )
    assert stored.event.authorization_id == ""
    assert stored.event.properties[LATE_PROPERTY] == "authorization_expired"
    assert names(journal) == ["lock"]


async def test_a_late_report_whose_answer_was_lost_is_found_again_in_the_next_life(
    site: Site, journal: Path
) -> None:
    # The journal holds the first form; the second was accepted before the crash.
    event = make_event("call", "acme", authorization_id="019a0000-0000-7000-8000-000000000000")
    before = Journal(journal)
    before.append([event.SerializeToString()], durable=True)
    before.close()
    (stored,) = await site.world.ingest(late_form(event, AUTHORIZATION_EXPIRED))
    assert stored.state == ACCEPTED
    told: list[event_pb2.EventOutcome] = []
    async with site.tollgate.producer(
        folder=journal, on_outcome=lambda _, outcome: told.append(outcome)
    ) as producer:
        await producer.flush()
    assert [(outcome.state, outcome.duplicate) for outcome in told] == [(ACCEPTED, True)]
    assert await site.world.verify() == 1
