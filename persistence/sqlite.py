"""SQLite: one file, one process, one writer.

The whole process has exactly one connection that writes; REST transactions and the update log take turns on
it, so nothing ever waits for SQLite's own lock, and the WAL-reset bug of SQLite before 3.51.3 (which needs
two connections that write or checkpoint at once) cannot happen. Readers are separate, see a stable snapshot
and never checkpoint.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from persistence.faults import StorageLocked, StorageRefused
from schemas.errors import StorageUnavailable

T = TypeVar("T")
log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 5_000
READERS = 4
FIXED_WAL_RESET = (3, 51, 3)  # https://sqlite.org/wal.html#walresetbug
WAL_BYTES_KEPT = 64 * 1024 * 1024  # after a burst the WAL file shrinks back to this
POOL_WAIT_SECONDS = 5

_EVERY_CONNECTION = (f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}", "PRAGMA foreign_keys=ON")
_WRITER = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=ON",  # macOS: an fsync that reaches the disk; nothing elsewhere
    "PRAGMA checkpoint_fullfsync=ON",
    f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}",
)
_READER = ("PRAGMA query_only=ON", "PRAGMA wal_autocheckpoint=0")


class Writer(aiosqlite.Connection):
    """The writing connection: also runs a whole function on its own thread, in one hop."""

    closed = False

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``function`` with the driver's connection on its thread. It goes on when the caller is
        cancelled, so it must leave no transaction open whatever happens."""
        return await self._execute(function, self._conn)  # type: ignore[no-any-return,no-untyped-call]

    def stop(self) -> "asyncio.Future[Any] | None":
        self.closed = True
        return super().stop()


class Sqlite:
    """One open SQLite database."""

    dialect = "sqlite"

    def __init__(self, url: URL, path: Path) -> None:
        self.url = url
        self.path = path
        self._closed = False  # a disposed engine would connect again
        self._lock_file: int | None = None
        self._writing = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None
        self._writer: Writer | None = None
        self._write_engine: AsyncEngine | None = None
        self._read_engine = _engine(url, _READER, begin="BEGIN", size=READERS)

    @classmethod
    async def open(cls, url: URL, *, read_only: bool = False) -> Self:
        """Raises ``StorageLocked`` when another process has it, ``StorageRefused`` when it cannot serve.

        ``read_only`` takes no lock and cannot write: it may stand beside a running server.
        """
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise StorageRefused("An SQLite database must be a plain file: sqlite+aiosqlite:///path/to/file.db")
        path = Path(url.database)
        self = cls(url, path)
        if read_only:
            if not os.path.exists(path):  # noqa: ASYNC240 - once, at the start
                raise StorageRefused(f"There is no database at {path}.")
            return self
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = _lock(path, os.O_RDWR | os.O_CREAT)
        try:
            self._write_engine = _engine(url, _WRITER, begin="BEGIN IMMEDIATE", size=1, creator=self._connect)
            async with self._write_engine.connect() as connection:
                mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one()
            if mode != "wal":
                raise StorageRefused(f"{path} cannot use a write-ahead log: put it on a local disk.")
        except BaseException:
            await self.close()
            raise
        _tell_wal_reset(path)
        return self

    async def close(self) -> None:
        """Idempotent. Waits for what is being written."""
        self._closed = True
        async with self._writing:
            await self._read_engine.dispose()
            if self._write_engine is not None:
                await self._write_engine.dispose()
                self._write_engine = None
            if self._lock_file is not None:
                os.close(self._lock_file)  # the lock goes with it; the file stays, removing it would race
                self._lock_file = None

    def locked_by(self) -> str | None:
        """The sentence about another process that has this database for writing, or None."""
        try:
            os.close(_lock(self.path, os.O_RDWR))
        except FileNotFoundError:
            return None
        except StorageLocked as error:
            return str(error)
        return None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        if self._closed:
            raise StorageUnavailable("The database is closed.")
        async with self._read_engine.begin() as connection:
            yield connection

    log_read = read

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with self._exclusive() as engine, engine.begin() as connection:
            yield connection

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a whole transaction as one function on the writer's thread, between REST transactions."""
        async with self._exclusive() as engine:
            if self._writer is None or self._writer.closed:
                async with engine.connect():  # a cancelled REST transaction takes its connection with it
                    pass
            assert self._writer is not None
            return await self._writer.run(function)

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[AsyncEngine]:
        task = asyncio.current_task()
        if task is not None and self._owner is task:
            raise RuntimeError("a write transaction is open in this task already: it would wait for itself")
        async with self._writing:
            if self._write_engine is None:
                raise StorageUnavailable(f"{self.path} is not open for writing.")
            self._owner = task
            try:
                yield self._write_engine
            finally:
                self._owner = None

    async def _connect(self) -> Writer:
        def connect() -> sqlite3.Connection:
            return sqlite3.connect(self.path, check_same_thread=False)

        writer = Writer(connect, 64)
        writer._thread.daemon = True  # a crash must not hang on it; every commit is on disk when answered
        await writer
        self._writer = writer
        return writer


def _lock(path: Path, flags: int) -> int:
    """Take the lock that keeps a second process away; it lasts until the descriptor is closed."""
    lock = path.with_name(path.name + ".lock")
    descriptor = os.open(lock, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StorageLocked(
            f"{path} is in use by process {holder} (lock file {lock}): stop that first, "
            "or use Postgres to run several processes."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _engine(url: URL, pragmas: tuple[str, ...], *, begin: str, size: int, creator: Any = None) -> AsyncEngine:
    extra = {} if creator is None else {"async_creator": creator}
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_reset_on_return=None,
        hide_parameters=True,  # addresses and hashes do not belong into tracebacks
        **extra,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: see `begin`
        cursor = connection.cursor()
        for pragma in (*_EVERY_CONNECTION, *pragmas):
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


@cache  # once: `serve` opens the database to migrate it and again to serve
def _tell_wal_reset(path: Path) -> None:
    if sqlite3.sqlite_version_info < FIXED_WAL_RESET:
        log.warning(
            "SQLite %s has the WAL-reset bug fixed in 3.51.3. It needs two connections writing at once; this "
            "server has one writer, so it is harmless as long as no other program writes to %s.",
            sqlite3.sqlite_version,
            path,
        )
