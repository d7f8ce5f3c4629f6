"""Usage queries over a month of a million events, and the raw COPY that ingest is held against."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from bench.records import Records
from tollgate.metering.v1 import usage_pb2 as usage
from tollgate.type.v1 import amount_pb2
from tollgate_cli.supervisor import Suite
from tollgate_cli.tenancy import render_time
from tollgate_sdk import Tollgate

EVENTS = 1_000_000
MODELS = 20  # of one dimension
HOURS = 30 * 24
QUERIES = 30
COPIED_MAX = 100_000  # rows
CUSTOMER = "heavy"
OTHER_TENANT = UUID("00000000-0000-7000-8000-0000000000ff")

_COLUMNS = (
    "receipt_id, event_id, customer_id, name, subject, event_time, receive_time, sequence,"
    " meter_version, properties, authorization_id, state, lines, refusal"
)


async def measure_query(records: Records, client: Tollgate, suite: Suite) -> None:
    """One customer's month of a million events by model, and by day: median of some queries.

    The hours are written as ingest leaves them; a query reads nothing else.
    """
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS)
    connection = await asyncpg.connect(suite.database_url)
    try:
        tenant_id = await _newest_tenant(connection)
        await connection.execute(
            "INSERT INTO metering.usage_hour (tenant_id, customer_id, meter, hour,"
            " dimension_values, aggregation, quantity, event_count)"
            " SELECT $1, $2, 'input_tokens', $3::timestamptz + make_interval(hours => h),"
            ' format(\'{"model": "model-%s"}\', m), 2, $4 * 1000, $4'
            " FROM generate_series(0, $5 - 1) AS h, generate_series(1, $6) AS m",
            tenant_id,
            CUSTOMER,
            begin,
            EVENTS // (HOURS * MODELS) + 1,
            HOURS,
            MODELS,
        )
        await connection.execute("ANALYZE metering.usage_hour")
    finally:
        await connection.close()
    request = usage.QueryUsageRequest(
        customer_ids=[CUSTOMER],
        meters=["input_tokens"],
        interval=amount_pb2.Interval(
            start_time=render_time(begin), end_time=render_time(begin + timedelta(hours=HOURS))
        ),
        window=usage.USAGE_WINDOW_DAY,
        group_by=["model"],
        page_size=1_000,
    )
    durations = []
    for _ in range(QUERIES):
        begun = time.perf_counter()
        answer = await client.call(client.usage.QueryUsage, request)
        durations.append(time.perf_counter() - begun)
        if sum(row.events for row in answer.rows) < EVENTS:
            raise RuntimeError("the query did not see all events")
    records.add("metering.query.customer_month_ms", sorted(durations)[QUERIES // 2] * 1_000, "ms")


async def measure_copy(records: Records, suite: Suite, customer_id: str) -> None:
    """Rows that ingest wrote, copied into the same table once more as another tenant's."""
    connection = await asyncpg.connect(suite.database_url)
    try:
        tenant_id = await connection.fetchval(
            "SELECT tenant_id FROM metering.customer WHERE customer_id = $1"
            " ORDER BY sequence DESC LIMIT 1",
            customer_id,
        )
        rows = io.BytesIO()
        status = await connection.copy_from_query(
            f"SELECT $1::uuid AS tenant_id, {_COLUMNS} FROM metering.event"
            " WHERE tenant_id = $2 ORDER BY receipt_id LIMIT $3",
            OTHER_TENANT,
            tenant_id,
            COPIED_MAX,
            output=rows,
            format="binary",
        )
        rows.seek(0)
        begun = time.perf_counter()
        await connection.copy_to_table(
            "event",
            schema_name="metering",
            columns=["tenant_id", *_COLUMNS.split(", ")],
            source=rows,
            format="binary",
        )
        seconds = time.perf_counter() - begun
        await connection.execute("DELETE FROM metering.event WHERE tenant_id = $1", OTHER_TENANT)
    finally:
        await connection.close()
    records.add("metering.ingest.copy", int(status.split()[-1]) / seconds, "events/s")


async def _newest_tenant(connection: asyncpg.Connection) -> UUID:
    """The tenant whose meters were created last: that of this measure."""
    tenant_id: UUID = await connection.fetchval(
        "SELECT tenant_id FROM metering.meter ORDER BY create_time DESC LIMIT 1"
    )
    return tenant_id
