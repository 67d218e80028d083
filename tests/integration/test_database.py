"""Transactions, connections and trouble on both databases, and on SQLite."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from persistence.database import Database
from persistence.faults import StorageLocked, StorageRefused
from persistence.sqlite import Sqlite
from persistence.tables import documents
from persistence.update_log import open_update_log
from schemas.errors import ConfigurationError, StorageFull, StorageUnavailable
from schemas.records import Committed
from tests.integration.stored import NOW, a_batch, a_document, ids


@pytest.fixture
async def sqlite(sqlite_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(sqlite_url)
    yield opened
    await opened.close()


# Both


async def test_a_transaction_is_there_for_everybody_after_its_block(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(a_document())
        assert await ids(database) == []
    assert await ids(database) == ["a"]


async def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as connection:
            await connection.execute(a_document())
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await ids(database) == []


async def test_a_transaction_that_is_cancelled_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    inside = asyncio.Event()

    async def forever() -> None:
        async with database.write() as connection:
            await connection.execute(a_document())
            inside.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(forever())
    await inside.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with database.write() as connection:
        await connection.execute(a_document("b"))
    assert await ids(database) == ["b"]


async def test_a_statement_that_is_cancelled_halfway_does_not_harm_later_ones(database: Database) -> None:
    log = open_update_log(database)
    async with database.write() as connection:
        await connection.execute(a_document())

    async def write(document_id: str) -> None:
        async with database.write() as connection:
            await connection.execute(a_document(document_id))
            await connection.execute(a_document(document_id + "x"))

    for steps in range(15):
        task = asyncio.create_task(write(f"n{steps}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await log.append([a_batch()]) == [Committed(steps + 1)]
    there = set(await ids(database))
    assert all((f"n{steps}" in there) == (f"n{steps}x" in there) for steps in range(15))


async def test_a_read_sees_one_state_throughout(database: Database) -> None:
    async with database.read() as connection:
        assert (await connection.execute(select(documents.c.id))).all() == []
        async with database.write() as other:
            await other.execute(a_document())
        assert (await connection.execute(select(documents.c.id))).all() == []
    assert await ids(database) == ["a"]


async def test_a_read_transaction_cannot_write(database: Database) -> None:
    with pytest.raises(StorageUnavailable):
        async with database.read() as connection:
            await connection.execute(a_document())
    assert await ids(database) == []


async def test_a_violated_constraint_is_for_the_caller_to_understand(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(a_document())
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await connection.execute(a_document())


async def test_a_mistake_of_ours_is_not_called_trouble_of_the_storage(database: Database) -> None:
    with pytest.raises((ProgrammingError, Exception), match="nonsense") as caught:
        async with database.write() as connection:
            await connection.execute(text("SELECT nonsense FROM documents"))
    assert not isinstance(caught.value, StorageUnavailable)


async def test_times_come_back_in_utc_and_naive_ones_are_refused(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(a_document())
        stored = (await connection.execute(select(documents.c.created_at))).scalar_one()
        assert (stored, stored.tzinfo) == (NOW, UTC)
    with pytest.raises(Exception, match="without a zone"):
        async with database.write() as connection:
            await connection.execute(documents.update().values(created_at=datetime(2030, 1, 1)))  # noqa: DTZ001


async def test_closing_twice_is_harmless_and_a_closed_database_takes_nothing(database: Database) -> None:
    await database.close()
    await database.close()
    with pytest.raises(StorageUnavailable):
        await open_update_log(database).append([a_batch()])
    with pytest.raises(StorageUnavailable):
        async with database.write():
            pass
    with pytest.raises(StorageUnavailable):
        await ids(database)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://localhost/x",
        "sqlite:///x.db",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
    ],
)
async def test_a_database_that_cannot_serve_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(ConfigurationError):
        await Database.open(url)


# SQLite


async def pragma(connection: Any, name: str) -> Any:
    return (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()


async def test_sqlite_writes_ahead_and_syncs_every_commit(sqlite: Database) -> None:
    async with sqlite.write() as connection:
        assert await pragma(connection, "journal_mode") == "wal"
        assert await pragma(connection, "synchronous") == 2
        assert await pragma(connection, "foreign_keys") == 1
        assert await pragma(connection, "busy_timeout") == 5000
    async with sqlite.read() as connection:
        assert await pragma(connection, "query_only") == 1
        assert await pragma(connection, "wal_autocheckpoint") == 0


async def test_sqlite_makes_its_directory(empty_sqlite_url: str) -> None:
    database = await Database.open(empty_sqlite_url)
    await database.close()
    assert Path(make_url(empty_sqlite_url).database or "").exists()


async def test_a_second_owner_of_an_sqlite_file_is_refused_until_the_first_is_gone(
    sqlite: Database, sqlite_url: str
) -> None:
    with pytest.raises(StorageLocked, match=r"collab\.db\.lock"):
        await Database.open(sqlite_url)
    await sqlite.close()
    again = await Database.open(sqlite_url)
    await again.close()


async def test_an_sqlite_file_can_be_read_beside_its_owner(sqlite: Database, sqlite_url: str) -> None:
    async with sqlite.write() as connection:
        await connection.execute(a_document())
    reader = await Database.open(sqlite_url, read_only=True)
    try:
        assert isinstance(reader.backend, Sqlite)
        assert "in use by process" in (reader.backend.locked_by() or "")
        assert await ids(reader) == ["a"]
        with pytest.raises(StorageUnavailable):
            async with reader.write():
                pass
        await sqlite.close()
        assert reader.backend.locked_by() is None
    finally:
        await reader.close()


async def test_reading_only_makes_no_database(empty_sqlite_url: str) -> None:
    with pytest.raises(StorageRefused, match="no database at"):
        await Database.open(empty_sqlite_url, read_only=True)


async def test_rest_and_the_log_take_turns_on_one_connection(sqlite: Database) -> None:
    log = open_update_log(sqlite)
    async with sqlite.write() as connection:
        await connection.execute(a_document())

    async def rest(number: int) -> None:
        async with sqlite.write() as connection:
            await connection.execute(a_document(f"rest-{number}"))
            await asyncio.sleep(0)
            await connection.execute(documents.update().where(documents.c.id == "a").values(title=str(number)))

    outcomes = await asyncio.gather(*(log.append([a_batch()]) for _ in range(30)), *(rest(n) for n in range(30)))
    assert [outcome for outcome in outcomes if outcome] == [[Committed(seq)] for seq in range(1, 31)]
    assert len(await ids(sqlite)) == 31


async def test_a_write_inside_a_write_is_a_mistake_and_not_a_deadlock(sqlite: Database) -> None:
    with pytest.raises(RuntimeError, match="wait for itself"):
        async with sqlite.write(), sqlite.write():
            pass
    assert await ids(sqlite) == []


async def test_a_full_disk_is_called_so_and_writing_goes_on_when_there_is_room(sqlite: Database) -> None:
    assert isinstance(sqlite.backend, Sqlite)
    log = open_update_log(sqlite)
    async with sqlite.write() as connection:
        await connection.execute(a_document())
    await log.append([a_batch()])

    def limit(pages: int) -> Any:
        return lambda connection: connection.execute(f"PRAGMA max_page_count={pages}").close()

    await sqlite.backend.run(limit(1))  # SQLite raises it to the present size
    big = a_batch(content=b"x" * 1_000_000)
    with pytest.raises(StorageFull):
        await log.append([big])
    with pytest.raises(StorageFull):
        async with sqlite.write() as connection:
            await connection.execute(a_document("b").values(title="x" * 1_000_000))
    assert len((await log.load("a")).rows) == 1
    await sqlite.backend.run(limit(1_000_000))
    assert await log.append([big]) == [Committed(2)]


async def test_a_file_that_is_no_database_is_storage_trouble(tmp_path: Path) -> None:
    path = tmp_path / "collab.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageUnavailable):
        await Database.open(f"sqlite+aiosqlite:///{path}")


async def test_a_foreign_lock_on_the_file_is_storage_trouble(
    sqlite: Database, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(sqlite.backend, Sqlite)
    await sqlite.backend.run(lambda connection: connection.execute("PRAGMA busy_timeout=10").close())
    foreign = sqlite3.connect(make_url(sqlite_url).database or "", isolation_level=None)
    try:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable):
            await open_update_log(sqlite).append([a_batch()])
        with pytest.raises(StorageUnavailable):
            async with sqlite.write():
                pass
    finally:
        foreign.close()
    async with sqlite.write() as connection:
        await connection.execute(a_document())
    assert await ids(sqlite) == ["a"]
