"""Where SQLite and Postgres differ for the repositories, in one place."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, overload

from sqlalchemy import Result, Table, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


@overload
def utc(stored: datetime) -> datetime: ...
@overload
def utc(stored: None) -> None: ...
def utc(stored: datetime | None) -> datetime | None:
    """A stored time with its zone: SQLite keeps the digits and forgets that they are UTC."""
    if stored is None:
        return None
    return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


async def insert_if_absent(connection: AsyncConnection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert one row unless a unique key is taken, and say whether it was inserted.

    Never raises for the conflict, so the transaction stays usable; of two at once exactly one wins.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing()
    result: Result[Any] = await connection.execute(statement.returning(literal_column("1")))
    return result.first() is not None
