"""Where SQLite and Postgres differ for the repositories, in one place."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Result, Table, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


async def insert_if_absent(connection: AsyncConnection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert one row unless a unique key is taken, and say whether it was inserted.

    Never raises for the conflict, so the transaction stays usable; of two at once exactly one wins.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing()
    result: Result[Any] = await connection.execute(statement.returning(literal_column("1")))
    return result.first() is not None
