"""What the same Postgres does with one row a transaction: the reference of durable work."""

from __future__ import annotations

import asyncpg

from bench.load import drive
from bench.records import Records

CONNECTIONS = 8


async def measure(records: Records, dsn: str) -> None:
    """Durable single-row updates a second, each connection on a row of its own."""
    pool = await asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
    async with pool:
        await pool.execute("CREATE TABLE IF NOT EXISTS bench_row (id int PRIMARY KEY, n bigint)")
        await pool.execute(
            "INSERT INTO bench_row SELECT i, 0 FROM generate_series(0, $1) i "
            "ON CONFLICT DO NOTHING",
            CONNECTIONS,
        )

        async def commit(number: int) -> None:
            await pool.execute("UPDATE bench_row SET n = n + 1 WHERE id = $1", number % CONNECTIONS)

        load = await drive(commit, callers=CONNECTIONS, seconds=4.0, warm_up=20)
        await pool.execute("DROP TABLE bench_row")
    records.add("pg.single_row_commit", load.rate(), "commits/s")
    records.add_latency("pg.single_row_commit", load.durations)
