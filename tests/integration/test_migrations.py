import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from persistence import migrate
from persistence.database import Database
from persistence.faults import StorageRefused
from persistence.tables import metadata


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


async def test_the_migrations_build_exactly_the_tables_of_the_code(database: Database) -> None:
    async with database.read() as connection:
        assert await connection.run_sync(_differences) == []


async def test_an_empty_database_is_brought_to_the_newest_revision_once(empty_database_url: str) -> None:
    database = await Database.open(empty_database_url)
    try:
        assert await migrate.current(database) is None
        waiting = await migrate.pending(database)
        assert waiting[-1] == migrate.head()
        assert await migrate.upgrade(database) == waiting
        assert await migrate.current(database) == migrate.head()
        assert await migrate.pending(database) == await migrate.upgrade(database) == []
    finally:
        await database.close()


async def test_a_database_of_a_newer_version_is_refused_and_stays_as_it_was(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageRefused, match="9999"):
        await migrate.upgrade(database)
    assert await migrate.current(database) == "9999"
