"""The database: one transaction at a time per ``async with``, on SQLite or Postgres."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.faults import StorageRefused, storage_errors
from persistence.postgres import Postgres
from persistence.sqlite import Sqlite


class Database:
    """An open database. Trouble with it raises ``StorageUnavailable`` or ``StorageFull``; a violated
    constraint stays SQLAlchemy's ``IntegrityError``."""

    def __init__(self, backend: Sqlite | Postgres) -> None:
        self.backend = backend

    @classmethod
    async def open(cls, url: str, *, read_only: bool = False) -> Self:
        """``sqlite+aiosqlite:///path`` or ``postgresql+asyncpg://user:password@host/name``.

        Changes no table: see ``persistence.migrate``. Raises ``StorageRefused`` (with a sentence for the
        operator) when this database must not be used, ``StorageUnavailable`` when it does not answer.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise StorageRefused("The database URL cannot be read: see the setting database_url.") from None
        backends: dict[str, type[Sqlite] | type[Postgres]] = {
            "sqlite+aiosqlite": Sqlite,
            "postgresql+asyncpg": Postgres,
        }
        backend = backends.get(parsed.drivername)
        if backend is None:
            raise StorageRefused(
                f"{parsed.drivername} is not supported: use sqlite+aiosqlite:///… or postgresql+asyncpg://…"
            )
        with storage_errors(connecting=True):
            return cls(await backend.open(parsed, read_only=read_only))

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.backend.dialect

    async def close(self) -> None:
        """Idempotent. Every transaction must have ended."""
        await self.backend.close()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One read-only transaction that sees one state of the database throughout."""
        with storage_errors():
            async with self.backend.read() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed (and fsynced) when the block ends, rolled back when it raises.

        On SQLite it holds the only writer: wait for nothing but the database inside, and do not nest.
        """
        with storage_errors():
            async with self.backend.write() as connection:
                yield connection

    @asynccontextmanager
    async def log_read(self) -> AsyncIterator[AsyncConnection]:
        """As ``read``, on connections kept for the update log."""
        with storage_errors():
            async with self.backend.log_read() as connection:
                yield connection
