"""Makes events look as if they had been received days ago, as only the passing of time can."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from tests.support.databases import FreshDatabase

# Days of receipt are partitions; the first 48 bits of a receipt are its milliseconds.
SHIFT = """
CREATE FUNCTION pg_temp.aged(receipt uuid, days integer) RETURNS uuid LANGUAGE sql AS $$
    SELECT (lpad(to_hex(('x' || left(replace(receipt::text, '-', ''), 12))::bit(48)::bigint
                        - days::bigint * 86400000), 12, '0')
            || right(replace(receipt::text, '-', ''), 20))::uuid
$$
"""
DAY = """
CREATE TABLE IF NOT EXISTS metering.event_{name} PARTITION OF metering.event
    FOR VALUES FROM (metering.receipt_bound('{day}')) TO (metering.receipt_bound('{day}'::date + 1))
"""


async def age_receipts(database: FreshDatabase, age: timedelta) -> None:
    """Move every event of the database to the partition of an earlier day, which is made."""
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        day = await connection.fetchval(
            "SELECT ((now() AT TIME ZONE 'UTC')::date - $1::integer)", age.days
        )
        for back in (0, 1):
            each = day - timedelta(days=back)
            await connection.execute(DAY.format(name=f"{each:%Y%m%d}", day=each))
        await connection.execute(SHIFT)
        for table in ("event", "event_receipt"):
            await connection.execute(
                f"UPDATE metering.{table} SET receipt_id = pg_temp.aged(receipt_id, {age.days})"
            )
    finally:
        await connection.close()
