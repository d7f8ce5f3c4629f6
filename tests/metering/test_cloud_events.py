"""CloudEvents 1.0, in both of their formats, are usage events by one mapping."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.message import Message

from kernel.cloud_events import map_event, read_events
from kernel.errors import InvalidValue
from tests.metering.world import ACCEPTED, INVALID, World, stamp, unit_price
from tollgate.metering.v1 import event_pb2

VALUE = event_pb2.CloudEventAttributeValue


def cloud_event(**attributes: object) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "/gateway/eu-1",
        "type": "call",
        "subject": "acme",
        "time": "2026-03-01T10:00:00.123456+01:00",
        **attributes,
    }


def mapped(document: dict[str, object]) -> object:
    (parsed,) = read_events(json.dumps(document), "json")
    return map_event(parsed, "event")


def test_every_part_has_its_place() -> None:
    (document,) = read_events(
        json.dumps(cloud_event(customerid="acme", subject="user 7", authorizationid="a"))[:-1]
        + ', "data": {"tokens": 1e3, "cost": 0.000000000000000001, "n": 12345678901234567890,'
        ' "stream": true, "none": null, "model": {"name": "m"}, "tags": ["a", 1]}}',
        "json",
    )
    found = map_event(document, "event")

    assert (found.event_id, found.name) == ("/gateway/eu-1#1", "call")
    assert (found.customer_id, found.subject, found.authorization_id) == ("acme", "user 7", "a")
    assert found.event_time == datetime(2026, 3, 1, 9, 0, 0, 123456, tzinfo=UTC)
    assert found.properties == {
        "tokens": "1000",
        "cost": "0.000000000000000001",
        "n": "12345678901234567890",
        "stream": "true",
        "model.name": "m",
        "tags": '["a",1]',
        "ce_source": "/gateway/eu-1",
    }


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"specversion": "0.3"}, "event.specversion"),
        ({"id": ""}, "event.id"),
        ({"type": 7}, "event.type"),
        ({"subject": None}, "event.subject"),
        ({"time": "yesterday"}, "event.time"),
        ({"time": "2026-02-30T10:00:00Z"}, "event.time"),
        ({"time": None}, "event.time"),
        ({"data": "text"}, "event.data"),
        ({"data_base64": "%%"}, "event.data_base64"),
        ({"datacontenttype": "application/xml", "data": "<a/>"}, "event.datacontenttype"),
    ],
)
def test_what_is_wrong_is_named(attributes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        mapped(cloud_event(**attributes))
    assert refusal.value.field == field


@pytest.mark.parametrize("text", ["{", '{"data": {"a": NaN}}', '{"data": {"a": -Infinity}}'])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        read_events(text, "json")


async def ingest(world: World, request: Message) -> list[event_pb2.EventOutcome]:
    answer = await world.call(world.events.IngestCloudEvents, request)
    return list(answer.outcomes)


async def test_they_are_charged_like_any_event_and_once_in_either_format(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("prepaid", {"tokens": unit_price("USD", "1")})
    await world.customer("acme", "prepaid", USD="100")
    time = world.now.isoformat()
    batch = [
        cloud_event(id="a", time=time, data={"tokens": 5}),
        cloud_event(id="b", time=time, specversion="2"),
        cloud_event(id="c", time=time, data={"tokens": "7"}),
    ]

    first = await ingest(world, event_pb2.IngestCloudEventsRequest(json=json.dumps(batch).encode()))
    message = event_pb2.CloudEvent(
        id="a",
        source="/gateway/eu-1",
        spec_version="1.0",
        type="call",
        attributes={
            "subject": VALUE(ce_string="acme"),
            "time": VALUE(ce_timestamp=stamp(world.now)),
        },
        text_data='{"tokens": 5}',
    )
    (again,) = await ingest(world, event_pb2.IngestCloudEventsRequest(events=[message]))
    structured = json.dumps(cloud_event(id="d", time=time, data={"tokens": 1})).encode()
    (single,) = await ingest(world, event_pb2.IngestCloudEventsRequest(json=structured))

    assert [outcome.state for outcome in first] == [ACCEPTED, INVALID, ACCEPTED]
    assert first[1].refusal.facts["field"] == "events[1].specversion"
    assert (again.state, again.duplicate) == (ACCEPTED, True)
    assert single.charges[0].amount.value == "1"
    assert await world.balances("acme") == {"USD": "87"}
    with pytest.raises(grpc.aio.AioRpcError):
        await ingest(world, event_pb2.IngestCloudEventsRequest())
    assert await world.verify() == 3
