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


# What else of usage has a time.
TIMES = {
    "event": ("event_time", "receive_time"),
    "usage_hour": ("hour",),
    "usage": ("period_start", "period_end", "start_time", "end_time"),
}


async def age_receipts(database: FreshDatabase, age: timedelta, *, usage: bool = False) -> None:
    """Move every event of the database to the partition of an earlier day, which is made; with
    `usage`, events and usage are of that day too."""
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        day = await connection.fetchval(
            "SELECT ((now() AT TIME ZONE 'UTC')::date - $1::integer)", age.days
        )
        for back in (0, 1):
            await connection.execute(
                "SELECT metering.make_event_partition($1)", day - timedelta(days=back)
            )
        await connection.execute(SHIFT)
        for table in ("event", "event_receipt"):
            await connection.execute(
                f"UPDATE metering.{table} SET receipt_id = pg_temp.aged(receipt_id, {age.days})"
            )
        for table, columns in TIMES.items() if usage else ():
            shifts = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
            await connection.execute(f"UPDATE metering.{table} SET {shifts}", age)
    finally:
        await connection.close()
