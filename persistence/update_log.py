"""The update log of a database: picks the adapter."""

from collections.abc import Callable
from datetime import datetime

from persistence.database import Database
from persistence.postgres import Postgres
from persistence.stored_log import utc_now
from persistence.update_log_postgres import PostgresLog
from persistence.update_log_sqlite import SqliteLog

__all__ = ["PostgresLog", "SqliteLog", "open_update_log"]


def open_update_log(database: Database, now: Callable[[], datetime] = utc_now) -> SqliteLog | PostgresLog:
    """The log of an open, migrated database; it is closed with the database.

    ``now`` gives the UTC time that rows are stamped with.
    """
    if isinstance(database.backend, Postgres):
        return PostgresLog(database, database.backend, now)
    return SqliteLog(database, database.backend, now)
