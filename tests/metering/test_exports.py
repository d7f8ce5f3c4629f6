"""Usage as a file: the figures of a query, exact, in parts that never hold all of it."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import grpc
import pyarrow.parquet
import pytest

from metering.exports.domain import Format
from metering.exports.wire import encoder_of
from tests.metering.world import SECONDS, World, stamp
from tests.support.services import credential
from tollgate.metering.v1 import usage_pb2
from tollgate.type.v1 import amount_pb2


def question(world: World) -> usage_pb2.QueryUsageRequest:
    return usage_pb2.QueryUsageRequest(
        interval=amount_pb2.Interval(
            start_time=stamp(world.now - timedelta(days=3)),
            end_time=stamp(world.now + timedelta(hours=1)),
        ),
        window=usage_pb2.USAGE_WINDOW_HOUR,
        time_zone="Europe/Berlin",
        group_by=["model"],
    )


async def exported(world: World, form: usage_pb2.ExportFormat.ValueType) -> tuple[bytes, int]:
    request = usage_pb2.ExportUsageRequest(query=question(world), format=form)
    content, rows = b"", 0
    async for part in world.usage.ExportUsage(
        request, timeout=SECONDS, metadata=credential(world.tenant_id)
    ):
        assert len(part.content) <= 1024 * 1024
        content += part.content
        rows = part.rows
    return content, rows


async def test_a_file_holds_what_a_query_answers_page_by_page(world: World) -> None:
    await world.meter("tokens", value="tokens", dimensions=["model"])
    await world.customer("acme")
    await world.customer("other")
    events = [
        world.event(
            customer,
            time=world.now - timedelta(minutes=7 * number),
            tokens=f"{number}.000000000000000001",
            model=f'{number % 3}, a "model"',
        )
        for number in range(400)
        for customer in ("acme", "other")
    ]
    await world.ingest(*events)
    asked = question(world)
    asked.page_size = 1_000
    answer = await world.call(world.usage.QueryUsage, asked)
    assert not answer.next_page_token
    expected = [
        (row.customer_id, row.group["model"], row.quantity, row.events) for row in answer.rows
    ]

    text, rows = await exported(world, usage_pb2.EXPORT_FORMAT_CSV)
    table, _ = await exported(world, usage_pb2.EXPORT_FORMAT_PARQUET)

    assert rows == len(expected) > 200
    read = list(csv.DictReader(io.StringIO(text.decode(), newline="")))
    assert [
        (r["customer_id"], r["dimension.model"], r["quantity"], int(r["events"])) for r in read
    ] == expected
    assert read[0]["window_start"].endswith("+00:00")
    columns = pyarrow.parquet.read_table(io.BytesIO(table)).to_pylist()
    assert [
        (r["customer_id"], r["dimension.model"], r["quantity"], r["events"]) for r in columns
    ] == [(name, model, Decimal(quantity), count) for name, model, quantity, count in expected]


async def test_an_empty_answer_is_a_file_with_a_header(world: World) -> None:
    text, rows = await exported(world, usage_pb2.EXPORT_FORMAT_CSV)
    table, _ = await exported(world, usage_pb2.EXPORT_FORMAT_PARQUET)
    assert rows == 0
    assert text.decode().startswith("customer_id,meter,window_start")
    assert pyarrow.parquet.read_table(io.BytesIO(table)).num_rows == 0


async def test_a_faulty_question_is_refused_before_anything_is_sent(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await exported(world, usage_pb2.EXPORT_FORMAT_CSV + 7)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_parquet_is_handed_on_group_by_group() -> None:
    encoder = encoder_of(Format.PARQUET, [])
    start = datetime(2026, 3, 1, tzinfo=UTC)
    row = usage_pb2.UsageRow(
        customer_id="acme",
        meter="tokens",
        window=amount_pb2.Interval(start_time=stamp(start), end_time=stamp(start)),
        quantity="1",
        events=1,
    )
    parts = [encoder.add([row] * 1_000) for _ in range(35)]
    whole = b"".join([*parts, encoder.finish()])
    assert sum(bool(part) for part in parts) >= 3
    file = pyarrow.parquet.ParquetFile(io.BytesIO(whole))
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (35_000, 4)
