"""Drafts, versions and previews of meters; quantities at both ends of what is exact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import grpc
import pytest

from tests.metering.test_meters import create, month_start, next_month, period, priced, quantities
from tests.metering.world import ACCEPTED, INVALID, World, stamp, unit_price
from tollgate.metering.v1 import meter_pb2
from tollgate.type.v1 import amount_pb2

pb = meter_pb2


async def draft(world: World, code: str, **fields: object) -> pb.Meter:
    meter = pb.Meter(code=code, event_name="call", **fields)  # type: ignore[arg-type]
    answer = await world.call(
        world.meters.CreateMeterDraft,
        pb.CreateMeterDraftRequest(request_id=world.key("draft"), meter=meter),
    )
    assert isinstance(answer.meter, pb.Meter)
    return answer.meter


async def publish(world: World, code: str, **fields: object) -> pb.Meter:
    request = pb.PublishMeterRequest(request_id=world.key("publish"), code=code, **fields)  # type: ignore[arg-type]
    answer = await world.call(world.meters.PublishMeter, request)
    assert isinstance(answer.meter, pb.Meter)
    return answer.meter


async def versions(world: World, code: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    token = ""
    while True:
        answer = await world.call(
            world.meters.ListMeterVersions,
            pb.ListMeterVersionsRequest(code=code, page_size=1, page_token=token),
        )
        found += [(meter.version, meter.state) for meter in answer.meters]
        token = answer.next_page_token
        if not token:
            return found


async def preview(world: World, **fields: object) -> pb.PreviewMeterResponse:
    start, end = world.now - timedelta(days=30), world.now + timedelta(days=1)
    request = pb.PreviewMeterRequest(
        interval=amount_pb2.Interval(start_time=stamp(start), end_time=stamp(end)),
        **fields,  # type: ignore[arg-type]
    )
    answer = await world.call(world.meters.PreviewMeter, request)
    assert isinstance(answer, pb.PreviewMeterResponse)
    return answer


async def test_a_new_version_counts_events_from_its_effective_time_and_leaves_the_others(
    world: World,
) -> None:
    await create(world, "work", aggregation=pb.AGGREGATION_SUM, value_property="seconds")
    await priced(world, "work")
    at = world.now + timedelta(seconds=200)
    assert (await world.ingest(world.event("acme", time=at, seconds="7")))[0].state == ACCEPTED

    await draft(world, "work", aggregation=pb.AGGREGATION_SUM, value_property="wrong")
    second = await draft(world, "work", aggregation=pb.AGGREGATION_SUM, value_property="minutes")
    assert (second.version, second.state) == (2, pb.METER_STATE_DRAFT)
    # A draft counts nothing.
    assert (await world.ingest(world.event("acme", seconds="1")))[0].state == ACCEPTED
    published = await publish(world, "work", effective_time=stamp(world.now + timedelta(minutes=2)))
    assert (published.version, published.state) == (2, pb.METER_STATE_PUBLISHED)

    outcomes = await world.ingest(
        world.event("acme", seconds="2", minutes="100"),
        world.event("acme", time=at, seconds="100", minutes="3"),
        world.event("acme", time=at, seconds="100"),
    )
    assert [outcome.state for outcome in outcomes] == [ACCEPTED, ACCEPTED, INVALID]
    assert outcomes[2].refusal.facts["property"] == "minutes"
    listed = await world.call(world.meters.ListMeters, pb.ListMetersRequest())
    assert [(meter.code, meter.version) for meter in listed.meters] == [("work", 2)]
    assert await versions(world, "work") == [
        (1, pb.METER_STATE_PUBLISHED),
        (2, pb.METER_STATE_PUBLISHED),
    ]
    # What was decided before it was published keeps the version that counted it: 7 + 1 + 2 + 3.
    found = await world.quantity("acme", "work")
    assert found == "13"
    assert await world.verify() == 4


async def test_a_new_version_adds_up_as_the_ones_before_it(world: World) -> None:
    await create(world, "work", aggregation=pb.AGGREGATION_SUM, value_property="seconds")
    for field, fields in (
        ("aggregation", {"aggregation": pb.AGGREGATION_MAX}),
        ("carry_over", {"carry_over": True}),
        ("unit", {"unit": "s"}),
    ):
        given = {"aggregation": pb.AGGREGATION_SUM, "value_property": "seconds", **fields}
        with pytest.raises(grpc.aio.AioRpcError, match=f"meter.{field}: stays the same"):
            await draft(world, "work", **given)
    await draft(world, "work", aggregation=pb.AGGREGATION_SUM, value_property="minutes")
    early = stamp(world.now - timedelta(hours=1))
    with pytest.raises(grpc.aio.AioRpcError, match="is before now"):
        await publish(world, "work", effective_time=early)
    await world.call(
        world.meters.CancelMeterDraft,
        pb.CancelMeterDraftRequest(request_id=world.key("cancel"), code="work"),
    )
    with pytest.raises(grpc.aio.AioRpcError, match="no draft of meter 'work'"):
        await publish(world, "work")
    await world.call(
        world.meters.ArchiveMeter,
        pb.ArchiveMeterRequest(request_id=world.key("archive"), code="work"),
    )
    with pytest.raises(grpc.aio.AioRpcError, match="is archived"):
        await draft(world, "work", aggregation=pb.AGGREGATION_SUM, value_property="minutes")
    assert await versions(world, "work") == [(1, pb.METER_STATE_ARCHIVED)]


async def traffic(world: World, rows: Sequence[tuple[int, dict[str, str]]]) -> None:
    await create(world, "calls", aggregation=pb.AGGREGATION_COUNT)
    await world.customer("acme")
    day = world.now.replace(hour=0, minute=0, second=0) - timedelta(days=5)
    for days, properties in rows:
        event = world.event("acme", time=day + timedelta(days=days), **properties)
        assert (await world.ingest(event))[0].state == ACCEPTED


async def test_a_draft_is_previewed_on_events_that_are_stored(world: World) -> None:
    rows = [
        (0, {"user": "a", "size": "3", "region": "eu"}),
        (0, {"user": "b", "size": "x", "region": "eu"}),
        (1, {"user": "a", "size": "4", "region": "us"}),
        (3, {"user": "a", "size": "5", "region": "eu"}),
    ]
    await traffic(world, rows)
    await draft(
        world,
        "sizes",
        aggregation=pb.AGGREGATION_SUM,
        value_expression="size * 2",
        property_types={"size": pb.PROPERTY_TYPE_NUMBER},
        dimensions=["region"],
    )
    found = await preview(world, code="sizes", period=pb.PREVIEW_PERIOD_DAY)
    assert [(row.dimensions["region"], row.quantity, row.events) for row in found.rows] == [
        ("eu", "6", 1),
        ("eu", "10", 1),
        ("us", "8", 1),
    ]
    assert (found.events_read, found.events_counted, found.events_unusable) == (4, 3, 1)
    assert "'x' is not a decimal number" in found.unusable[0].why
    assert [meter.code for meter in (
        await world.call(world.meters.ListMeters, pb.ListMetersRequest())
    ).meters] == ["calls"]  # fmt: skip
    assert await world.quantity("acme", "sizes") == "0"


async def test_a_preview_carries_levels_and_says_what_is_too_much(world: World) -> None:
    await traffic(world, [(0, {"level": "3"}), (2, {"level": "5"})])
    meter = pb.Meter(
        event_name="call", aggregation=pb.AGGREGATION_LAST, value_property="level", carry_over=True
    )
    found = await preview(world, meter=meter, period=pb.PREVIEW_PERIOD_DAY, customer_ids=["acme"])
    assert [row.quantity for row in found.rows][:4] == ["3", "3", "5", "5"]
    meter.carry_over = False
    found = await preview(world, meter=meter, period=pb.PREVIEW_PERIOD_DAY)
    assert [(row.quantity, row.events) for row in found.rows] == [("3", 1), ("5", 1)]
    with pytest.raises(grpc.aio.AioRpcError, match="exactly one of meter and code"):
        await preview(world, meter=meter, code="calls")
    request = pb.PreviewMeterRequest(
        meter=meter,
        interval=amount_pb2.Interval(
            start_time=stamp(world.now - timedelta(days=93)), end_time=stamp(world.now)
        ),
    )
    with pytest.raises(grpc.aio.AioRpcError, match="longer than 92 days"):
        await world.call(world.meters.PreviewMeter, request)


async def test_an_expression_is_tried_before_it_is_used(world: World) -> None:
    async def evaluate(text: str, **properties: str) -> pb.EvaluateExpressionResponse:
        answer = await world.call(
            world.meters.EvaluateExpression,
            pb.EvaluateExpressionRequest(
                expression=text,
                property_types={"a": pb.PROPERTY_TYPE_NUMBER, "b": pb.PROPERTY_TYPE_STRING},
                properties=properties,
            ),
        )
        assert isinstance(answer, pb.EvaluateExpressionResponse)
        return answer

    number = await evaluate("a / 3", a="1")
    assert (number.type, number.value) == (pb.PROPERTY_TYPE_NUMBER, "0.333333333333333333")
    assert (await evaluate("b + '!'", b="x")).value == "x!"
    assert (await evaluate("a > 1", a="2")).value == "true"
    assert (await evaluate("a + 1")).unusable == "a: is missing"
    with pytest.raises(grpc.aio.AioRpcError, match="expression: column 1: 'c' is not one of"):
        await evaluate("c")


EXTREMES = ["1000000000000", "1000000000000000", "0.000000000000000001"]


@pytest.mark.parametrize(
    ("kind", "fields", "total"),
    [
        ("SUM", {"value_property": "value"}, "1001000000000000.000000000000000001"),
        ("SUM", {"value_expression": "value * 1", "property_types": {"value": 1}},
         "1001000000000000.000000000000000001"),
        ("MAX", {"value_property": "value"}, "1000000000000000"),
        ("LAST", {"value_property": "value"}, "0.000000000000000001"),
        ("WEIGHTED_SUM", {"value_property": "value"}, "1001000000000000.000000000000000001"),
    ],
)  # fmt: skip
async def test_quantities_are_exact_from_ten_to_the_fifteenth_to_an_attounit(
    world: World, kind: str, fields: dict[str, object], total: str
) -> None:
    """From the wire through running usage, hours, charges and the recount, and back."""
    await create(world, "exact", aggregation=pb.Aggregation.Value(f"AGGREGATION_{kind}"), **fields)
    await world.asset("tick", scale=18)
    await world.plan("plan", {"exact": unit_price("tick", "1")})
    await world.customer("acme", "plan", tick="5000000000000000")
    at = month_start(world.now)

    outcomes = await world.ingest(*(world.event("acme", time=at, value=v) for v in EXTREMES))

    assert [outcome.state for outcome in outcomes] == [ACCEPTED] * 3
    found = await period(world, "acme", "exact", at)
    assert found.usage.quantity == total
    rows = await quantities(world, "exact", at, next_month(at))
    assert list(rows.values()) == [total]
    charged = {"MAX": total, "LAST": "1000000000000000", "WEIGHTED_SUM": "0"}.get(kind, total)
    assert found.charged.value == charged
    assert await world.verify() == 3
