"""The one place where driver errors become ours.

Only trouble of the storage itself is translated: a violated constraint or a wrong statement passes as it is,
because the caller means something by the first and the second is a bug.
"""

import asyncio
import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import exc

from schemas.errors import ConfigurationError, StorageFull, StorageUnavailable


class StorageRefused(ConfigurationError):
    """The database must not be used as it is. The message tells the operator what to change."""


class StorageLocked(StorageRefused):
    """Another process holds this SQLite database."""


_SQLITE_FULL = {sqlite3.SQLITE_FULL}
_SQLITE_TROUBLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_INTERRUPT,
}
_POSTGRES_FULL = {"53100"}
_POSTGRES_TROUBLE = {
    "25006",  # read-only transaction: a failover made this server a standby
    "25P03",  # idle in transaction for too long
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # lock_timeout
    "57014",  # statement_timeout
    "58030",  # I/O error
}
_POSTGRES_TROUBLE_CLASSES = (
    "08",  # connection
    "28",  # authorization: the role or its password was changed under us
    "3D",  # the database is gone
    "53",  # out of connections, memory
    "57P",  # shutting down, starting up, crashed
)


def storage_error(error: BaseException) -> StorageUnavailable | None:
    """What ``error`` means for us, or None when it is no trouble of the storage."""
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        # SQLAlchemy's adapter wraps what asyncpg raised once more.
        for inner in (error.orig, error.orig.__cause__):
            if inner is not None and (found := storage_error(inner)) is not None:
                return found
        return StorageUnavailable() if error.connection_invalidated else None
    if isinstance(error, exc.TimeoutError):  # no free connection in the pool
        return StorageUnavailable()
    if isinstance(error, sqlite3.Error):
        return _sqlite(error)
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return _postgres(state)
    return _connection(error)


def _sqlite(error: sqlite3.Error) -> StorageUnavailable | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the driver, such as for a closed connection
        return StorageUnavailable() if isinstance(error, sqlite3.OperationalError) else None
    primary = code & 0xFF
    if primary in _SQLITE_FULL:
        return StorageFull()
    return StorageUnavailable() if primary in _SQLITE_TROUBLE else None


def _postgres(state: str) -> StorageUnavailable | None:
    if state in _POSTGRES_FULL:
        return StorageFull()
    if state in _POSTGRES_TROUBLE or state.startswith(_POSTGRES_TROUBLE_CLASSES):
        return StorageUnavailable()
    return None


def _connection(error: BaseException) -> StorageUnavailable | None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull()
    if isinstance(error, ConnectionError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return StorageUnavailable()
    return None


@contextmanager
def storage_errors(*, connecting: bool = False) -> Iterator[None]:
    """Raise ``StorageUnavailable`` or ``StorageFull`` instead of the driver's errors.

    While ``connecting``, any OSError (DNS, a refused or timed out connection) means the storage too.
    """
    try:
        yield
    except Exception as error:
        found = storage_error(error)
        if found is None and connecting and isinstance(error, OSError | asyncio.TimeoutError):
            found = StorageUnavailable()
        if found is None:
            raise
        raise found from error
