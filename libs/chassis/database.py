"""Transactions on Postgres: one tenant's, a money batch's, or a job's that only learns ids.

Every transaction has exactly three endings. It committed; it did not, and an exception says why;
or the connection went away while COMMIT was under way and nobody can tell, which is
`OutcomeUnknown`: repeat with the same key.

No query here or in a service takes asyncpg's `timeout=`. A timeout sends a cancel, and a cancel
that meets a commit waiting for its standby leaves a change that is neither done nor undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chassis import failpoints
from kernel.errors import Kind, Refusal

# asyncpg's classes are generic only in its stubs.
if TYPE_CHECKING:
    Connection: TypeAlias = PoolConnectionProxy[asyncpg.Record]
    _Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    _RawConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = PoolConnectionProxy
    _Pool = asyncpg.Pool
    _RawConnection = asyncpg.Connection

T = TypeVar("T")

PoolMode = Literal["direct", "transaction"]

# Longer than a failover of one second, shorter than the default deadline of a call.
ACQUIRE_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 5.0
IDLE_SECONDS_MAX = 300.0

# What a server says when it will not or cannot work now: classes 08 (connection), 53 (disk full,
# out of memory, too many connections), 57 (shutting down), 58 (I/O), and a standby's refusal.
_AWAY_CLASSES = ("08", "53", "57P", "58", "25006")


# What a connection raises: its own errors, the server's, and a driver that lost its place.
_ERRORS = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class DatabaseUnavailable(Refusal):
    """The database did not answer and nothing was done. Try again."""

    reason = "DATABASE_UNAVAILABLE"
    kind = Kind.UNAVAILABLE


class OutcomeUnknown(Refusal):
    """The connection was lost while COMMIT was under way. Repeat with the same key."""

    reason = "OUTCOME_UNKNOWN"
    kind = Kind.UNKNOWN_OUTCOME


class CommitSwallowed(Exception):
    """A statement failed, its error was caught inside the transaction, and COMMIT rolled back."""


class NotDurable(Exception):
    """The role has synchronous_commit off: its acknowledgements of money would be lies."""


class Database:
    """A bounded pool of connections to one service's schema, as that service's app role.

    `pool_mode` is "transaction" behind pgbouncer (no prepared statement outlives a transaction)
    and "direct" otherwise. `size` is the most connections held: lanes plus concurrent readers.
    """

    def __init__(self, dsn: str, *, pool_mode: PoolMode = "direct", size: int = 10) -> None:
        self.dsn = dsn
        self.pool_mode = pool_mode
        self.size = size
        self._pool: _Pool | None = None

    async def open(self) -> None:
        """Make the pool. Connections are made as they are needed, so an absent server is no error
        here: the program starts and says NOT_SERVING until the server is back."""
        self._pool = await asyncpg.create_pool(
            self.dsn,
            min_size=0,
            max_size=self.size,
            max_inactive_connection_lifetime=IDLE_SECONDS_MAX,
            statement_cache_size=0 if self.pool_mode == "transaction" else 200,
            timeout=CONNECT_SECONDS_MAX,
            init=_assert_durable,
            # Nothing outlives a transaction here, so the usual RESET ALL would be a wasted trip.
            reset=_nothing_to_reset,
        )

    async def close(self) -> None:
        """Wait for what is running, then close every connection."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def __aenter__(self) -> Database:
        await self.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @asynccontextmanager
    async def transaction(self, tenant_id: UUID) -> AsyncIterator[Connection]:
        """One tenant's transaction: other tenants' rows do not exist in it.

        Commits at the end of the block, rolls back on any exception. It is begun by hand to save
        a round trip, so `tx.transaction()` (savepoints) and `tx.cursor()` are not to be had.
        Raises DatabaseUnavailable, OutcomeUnknown.
        """
        begin = f"BEGIN; SELECT set_config('tollgate.tenant_id', '{UUID(str(tenant_id))}', true)"
        async with self.unscoped() as connection, _transaction(connection, begin):
            yield connection

    @asynccontextmanager
    async def money_transaction(self) -> AsyncIterator[Connection]:
        """A transaction for a batch of many tenants' money, through definer functions only.

        It names no tenant, so row security refuses it every table that is guarded by one. Raises
        NotDurable where the role would acknowledge before writing, DatabaseUnavailable,
        OutcomeUnknown.
        """
        async with self.unscoped() as connection:
            if failpoints.armed is not None:
                await failpoints.armed.reach("before_begin")
            async with _transaction(connection, "BEGIN", waits_for_standby=True):
                yield connection
                if failpoints.armed is not None:
                    await failpoints.armed.reach("before_commit")
            if failpoints.armed is not None:
                await failpoints.armed.reach("after_commit_before_reply")

    @asynccontextmanager
    async def unscoped(self) -> AsyncIterator[Connection]:
        """A connection without transaction or tenant, for calls of definer functions that return
        ids. Raises DatabaseUnavailable where none can be had within five seconds."""
        if self._pool is None:
            raise DatabaseUnavailable("the pool is closed")
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX)
        except (TimeoutError, *_ERRORS) as error:
            raise _unavailable(error) from error
        try:
            yield connection
        except _ERRORS as error:
            if isinstance(error, asyncpg.InternalClientError):
                _drop(connection)
            if is_away(error):
                raise _unavailable(error) from error
            raise
        finally:
            await self._release(connection)

    async def fetch_once(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """One statement that is a transaction of its own, in one trip.

        It must name its tenant itself, first of all: by a function of the schema that begins with
        `set_config('tollgate.tenant_id', …, true)`. Raises DatabaseUnavailable where no connection
        was to be had, OutcomeUnknown where it was lost after the statement was sent.
        """
        async with self.unscoped() as connection:
            return await _undisturbed(connection.fetch(statement, *values), connection)

    async def money_statement(self, statement: str, *values: object) -> asyncpg.Record:
        """One statement of many tenants' money that is a transaction of its own, in one trip:
        `money_transaction` for a definer function that does all of a batch. Answers its one row.

        Raises DatabaseUnavailable where nothing was sent, OutcomeUnknown where the connection was
        lost or the wait for the standby cut short after that.
        """
        if failpoints.armed is not None:
            for name in ("before_begin", "after_lock", "before_commit"):
                await failpoints.armed.reach(name)
        async with self.unscoped() as connection, _standby_heeded(connection):
            row = await _undisturbed(connection.fetchrow(statement, *values), connection)
        if failpoints.armed is not None:
            await failpoints.armed.reach("after_commit_before_reply")
        assert row is not None
        return row

    async def is_reachable(self) -> bool:
        """Whether the server answers a statement now; for readiness."""
        try:
            async with self.unscoped() as connection:
                await connection.execute("SELECT 1")
        except DatabaseUnavailable:
            return False
        return True

    async def _release(self, connection: Connection) -> None:
        if self._pool is None:  # closed meanwhile, and the connection with it
            return
        try:
            await self._pool.release(connection)
        except _ERRORS:
            # A connection that cannot be given back is broken; the pool has terminated it and
            # makes another. The transaction's own outcome has been told already.
            return


@asynccontextmanager
async def _transaction(
    connection: Connection, begin: str, *, waits_for_standby: bool = False
) -> AsyncIterator[None]:
    try:
        await connection.execute(begin)
    except asyncpg.PostgresError:
        await _rollback(connection)
        raise
    try:
        yield
    except BaseException:
        await _rollback(connection)
        raise
    if waits_for_standby:
        async with _standby_heeded(connection):
            await _commit(connection)
    else:
        await _commit(connection)


async def _commit(connection: Connection) -> None:
    status = await _undisturbed(connection.execute("COMMIT"), connection)
    if status != "COMMIT":
        raise CommitSwallowed(f"COMMIT answered {status}: an earlier error was swallowed")


async def _undisturbed(statement: Coroutine[Any, Any, T], connection: Connection) -> T:
    """What a statement that commits answers. Raises OutcomeUnknown where the connection is lost."""
    commit = asyncio.ensure_future(statement)
    try:
        # A caller that gives up must not cancel a commit half way.
        return await asyncio.shield(commit)
    except asyncio.CancelledError:
        await asyncio.wait([commit])
        if not commit.cancelled():
            commit.exception()  # looked at, so that nobody warns that nobody did
        raise
    except _ERRORS as error:
        if is_away(error):
            _drop(connection)
            raise OutcomeUnknown("the connection was lost during COMMIT") from error
        raise  # a constraint refused: rolled back, and known to be


@asynccontextmanager
async def _standby_heeded(connection: Connection) -> AsyncIterator[None]:
    """Raise OutcomeUnknown where a commit in the block did not wait for the standby to the end."""
    # When a wait for the standby is cut short, COMMIT succeeds with a warning. The change is
    # visible here and perhaps nowhere else, which is no outcome to tell anybody.
    warnings: list[str] = []

    def note(_: object, message: asyncpg.PostgresLogMessage) -> None:
        if "synchronous replication" in str(message):
            warnings.append(str(message))

    connection.add_log_listener(note)
    try:
        yield
    finally:
        with suppress(asyncpg.InterfaceError):  # the connection is gone, and its listeners too
            connection.remove_log_listener(note)
    if warnings:
        _drop(connection)
        raise OutcomeUnknown("the wait for the standby was cut short")


async def _rollback(connection: Connection) -> None:
    try:
        rollback = asyncio.ensure_future(connection.execute("ROLLBACK"))
    except (asyncpg.InterfaceError, asyncpg.InternalClientError):  # gone, and the pool knows
        return
    try:
        await asyncio.shield(rollback)
    except asyncio.CancelledError:
        await asyncio.wait([rollback])
        raise
    except _ERRORS:
        # The server rolls back what a closed connection leaves open.
        _drop(connection)


def _drop(connection: Connection) -> None:
    # One that died has been taken back by the pool already, and refuses to be touched.
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _assert_durable(connection: _RawConnection) -> None:
    if await connection.fetchval("SELECT current_setting('synchronous_commit')") == "off":
        raise NotDurable("synchronous_commit is off for this role; set it to on")


async def _nothing_to_reset(_: _RawConnection) -> None:
    return


def is_away(error: BaseException) -> bool:
    """Whether an error means that the server is away rather than that it refused a statement."""
    if isinstance(error, asyncpg.PostgresError):
        return bool(error.sqlstate) and str(error.sqlstate).startswith(_AWAY_CLASSES)
    if isinstance(error, asyncpg.InterfaceError):
        # "connection is closed", "… was closed in the middle of …", "… released back to the pool"
        return "clos" in str(error) or "released" in str(error)
    # A connection that was cut at an unlucky moment is given out again in the middle of its last
    # operation; whatever is asked of it next, asyncpg refuses before it sends anything.
    return isinstance(error, OSError | asyncpg.InternalClientError)


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    words = str(error) or type(error).__name__
    return DatabaseUnavailable(f"the database is unavailable: {words}")


def dsn_with(
    dsn: str,
    *,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
) -> str:
    """The same server under another role or database. A new user drops the old one's password."""
    parts = urlsplit(dsn)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("user",)]
    name = user if user is not None else unquote(parts.username or "")
    secret = password if user is not None or password is not None else unquote(parts.password or "")
    login = quote(name, safe="")
    if secret:
        login += f":{quote(secret, safe='')}"
    place = parts.netloc.rpartition("@")[2]
    path = f"/{quote(database, safe='')}" if database is not None else parts.path
    return urlunsplit((parts.scheme, f"{login}@{place}", path, urlencode(query, safe="/"), ""))
