"""Postgres: two pools, so that REST traffic never makes the update log wait for a connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from persistence.faults import StorageRefused, storage_errors
from schemas.errors import StorageUnavailable

LOCK_TIMEOUT_MS = 2_000
STATEMENT_TIMEOUT_MS = 5_000
CONNECT_TIMEOUT_SECONDS = 5
POOL_WAIT_SECONDS = 5
REST_CONNECTIONS = 8
APPEND_LANES = 2  # while one waits for its fsync, another flush can go
LOG_CONNECTIONS = APPEND_LANES + 2  # the others load

_SESSION = {
    "application_name": "collab-server",
    "synchronous_commit": "on",  # whatever the role or the database says: saved means saved
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": "60000",
    "jit": "off",  # no statement here is long enough to earn its compilation
    "timezone": "UTC",
}
_SESSION_ENDED = ("08", "57P")  # connection exceptions; shut down, crashed
_MUST_BE_ON = {
    "fsync": "a crash of the machine would lose what was acknowledged",
    "full_page_writes": "a torn page would lose what was acknowledged",
}


class Postgres:
    """One open Postgres database."""

    dialect = "postgresql"

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engine = _engine(url, REST_CONNECTIONS)
        self.log_engine = _engine(url, LOG_CONNECTIONS)
        self._reading = _snapshots(self._engine)
        self._log_reading = _snapshots(self.log_engine)
        self._closed = False  # a disposed engine would connect again
        self._lanes: list[Lane] = []
        self._lane_free = asyncio.Semaphore(APPEND_LANES)

    @classmethod
    async def open(cls, url: URL, *, read_only: bool = False) -> Self:
        """Raises ``StorageRefused`` when this server may lose commits."""
        self = cls(url)
        try:
            with storage_errors(connecting=True):
                async with self.read() as connection:
                    for setting, harm in _MUST_BE_ON.items():
                        value = (await connection.exec_driver_sql(f"SHOW {setting}")).scalar_one()
                        if value != "on" and not read_only:
                            raise StorageRefused(
                                f"Postgres runs with {setting}={value}, so {harm}: "
                                f"set {setting}=on in postgresql.conf and reload it."
                            )
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Idempotent."""
        self._closed = True
        while self._lanes:
            await self._lanes.pop().close()
        await self._engine.dispose()
        await self.log_engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        self._must_be_open()
        async with _transaction(self._reading) as connection:
            yield connection

    @asynccontextmanager
    async def log_read(self) -> AsyncIterator[AsyncConnection]:
        self._must_be_open()
        async with _transaction(self._log_reading) as connection:
            yield connection

    @asynccontextmanager
    async def lane(self) -> AsyncIterator["Lane"]:
        """A connection for one append. It is thrown away when the block leaves it broken or half used."""
        async with self._lane_free:
            self._must_be_open()
            lane = self._lanes.pop() if self._lanes else await Lane.open(self.log_engine)
            try:
                yield lane
            except BaseException as error:
                # Cancelled or out of touch: a statement may still be running on it.
                lane.lost = not isinstance(error, asyncpg.PostgresError) or (
                    str(error.sqlstate).startswith(_SESSION_ENDED)
                )
                await self._put_back(lane)
                raise
            await self._put_back(lane)

    def _must_be_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("The database is closed.")

    async def _put_back(self, lane: "Lane") -> None:
        lane.lost = lane.lost or lane.driver.is_closed() or lane.driver.is_in_transaction()
        if not lane.lost:
            self._lanes.append(lane)
            return
        await lane.discard()
        while self._lanes:  # what ended one has most likely ended all
            await self._lanes.pop().discard()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        self._must_be_open()
        async with _transaction(self._engine) as connection:
            yield connection


class Lane:
    """A connection kept for appends, with its prepared statements, below SQLAlchemy (which costs six times
    as much per commit)."""

    def __init__(self, connection: AsyncConnection, driver: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self.driver = driver
        self.lost = False  # whether it is of no use any more, and what it did last is unknown
        self._prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}

    @classmethod
    async def open(cls, engine: AsyncEngine) -> Self:
        connection = await engine.connect()
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert driver is not None
        return cls(connection, driver)

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement, prepared once per connection."""
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = await self.driver.prepare(statement)
        return await prepared.fetch(*arguments)

    async def discard(self) -> None:
        self.driver.terminate()
        await self._connection.invalidate()
        await self._connection.close()

    async def close(self) -> None:
        """Give the connection back to its pool."""
        await self._connection.close()


def _engine(url: URL, size: int) -> AsyncEngine:
    arguments: dict[str, Any] = {"server_settings": _SESSION, "timeout": CONNECT_TIMEOUT_SECONDS}
    return create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        connect_args=arguments,
        hide_parameters=True,  # addresses and hashes do not belong into tracebacks
    )


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with AsyncExitStack() as stack:
        with storage_errors(connecting=True):  # here an OSError is the network's; in the block it need not be
            connection = await stack.enter_async_context(engine.connect())
        await stack.enter_async_context(connection.begin())
        yield connection


def _snapshots(engine: AsyncEngine) -> AsyncEngine:
    """The same pool, for transactions that see one state and change nothing."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
