"""Transactions, connections and trouble, on real databases."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, make_url, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from persistence import postgres
from persistence.database import Database
from persistence.faults import StorageLocked, StorageRefused
from persistence.postgres import Lane, Postgres
from persistence.sqlite import Sqlite
from persistence.tables import documents
from persistence.update_log import open_update_log
from schemas.errors import ConfigurationError, StorageFull, StorageUnavailable
from schemas.records import Batch, Committed, Entry
from tests.backends import PostgresServer

NOW = datetime(2030, 1, 1, tzinfo=UTC)
_numbers = iter(range(1, 1_000_000))


def a_document(document_id: str = "a") -> Any:
    return insert(documents).values(id=document_id, kind="document", title="", created_at=NOW, updated_at=NOW)


def a_batch(document_id: str = "a", content: bytes = b"x") -> Batch:
    return Batch(document_id, next(_numbers).to_bytes(16), 1, (Entry("account:alice", content),))


async def ids(database: Database) -> list[str]:
    async with database.read() as connection:
        return sorted((await connection.execute(select(documents.c.id))).scalars())


@pytest.fixture
async def sqlite(sqlite_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(sqlite_url)
    yield opened
    await opened.close()


@pytest.fixture
async def postgresql(postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(postgres_url)
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


async def test_closing_twice_is_harmless(database: Database) -> None:
    await database.close()
    await database.close()


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
        with pytest.raises(StorageRefused):
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


# Postgres


async def test_every_postgres_session_syncs_its_commits_and_gives_up_waiting(postgresql: Database) -> None:
    for transaction in (postgresql.write, postgresql.log_read):
        async with transaction() as connection:
            for setting, value in (
                ("synchronous_commit", "on"),
                ("lock_timeout", "2s"),
                ("statement_timeout", "5s"),
            ):
                assert (await connection.execute(text(f"SHOW {setting}"))).scalar_one() == value


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    server = PostgresServer.start(own=True)
    yield server
    server.stop()


async def _set(server: PostgresServer, setting: str, value: str) -> None:
    await server.execute(f"ALTER SYSTEM SET {setting} = {value}")
    server.crash()
    server.resume()


async def test_a_postgres_that_may_lose_commits_is_refused(own_server: PostgresServer) -> None:
    url = own_server.create(migrated=False)
    for setting in ("fsync", "full_page_writes"):
        await _set(own_server, setting, "off")
        with pytest.raises(StorageRefused, match=f"set {setting}=on"):
            await Database.open(url)
        await _set(own_server, setting, "on")
    database = await Database.open(url)
    await database.close()


async def test_a_postgres_that_crashes_is_storage_trouble_until_it_is_back(own_server: PostgresServer) -> None:
    database = await Database.open(own_server.create())
    try:
        log = open_update_log(database)
        async with database.write() as connection:
            await connection.execute(a_document())
        first, second = a_batch(), a_batch()
        assert await log.append([first]) == [Committed(1)]
        own_server.crash()
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await log.append([second])
            with pytest.raises(StorageUnavailable):
                await log.load("a")
            with pytest.raises(StorageUnavailable):
                await ids(database)
        own_server.resume()
        assert await log.append([first, second]) == [Committed(1), Committed(2)]
        assert len((await log.load("a")).rows) == 2
        assert await ids(database) == ["a"]
    finally:
        await database.close()


async def test_a_postgres_that_is_away_at_the_start_is_storage_trouble(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        await Database.open(f"postgresql+asyncpg://x@/x?host={tmp_path}")
    with pytest.raises(StorageUnavailable):
        await Database.open("postgresql+asyncpg://x:y@127.0.0.1:1/x")


async def test_an_append_survives_the_loss_of_its_connection(postgresql: Database) -> None:
    log = open_update_log(postgresql)
    async with postgresql.write() as connection:
        await connection.execute(a_document())
        await connection.execute(a_document("b"))
    for seq in range(1, 5):
        at_once = await asyncio.gather(log.append([a_batch("a")]), log.append([a_batch("b")]))
        assert at_once == [[Committed(seq)]] * 2
        await end_other_sessions(postgresql)


async def test_an_append_survives_the_end_of_its_session_while_it_waits(postgresql: Database) -> None:
    log = open_update_log(postgresql)
    async with postgresql.write() as connection:
        await connection.execute(a_document())
    async with postgresql.write() as connection:
        await connection.execute(documents.update().values(title="held"))
        task = asyncio.create_task(log.append([a_batch()]))
        while not await waiting_sessions(postgresql):
            await asyncio.sleep(0.01)
        await end_other_sessions(postgresql, "AND wait_event_type = 'Lock'")
        while not await waiting_sessions(postgresql):  # it tries again, and waits again
            await asyncio.sleep(0.01)
    assert await task == [Committed(1)]
    assert len((await log.load("a")).rows) == 1


async def end_other_sessions(database: Database, which: str = "") -> None:
    async with database.read() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity "
                f"WHERE datname = current_database() AND pid <> pg_backend_pid() {which}"
            )
        )


async def waiting_sessions(database: Database) -> int:
    async with database.read() as connection:
        found = await connection.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )
        return int(found.scalar_one())


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
@pytest.mark.parametrize("many", [1, 3])
async def test_an_append_whose_answer_is_lost_is_written_exactly_once(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch, committed: bool, many: int
) -> None:
    log = open_update_log(postgresql)
    batches = [a_batch(f"d{number}") for number in range(many)]
    async with postgresql.write() as connection:
        for batch in batches:
            await connection.execute(a_document(batch.document_id))
    fetch, lost = Lane.fetch, []

    async def lose(lane: Lane, statement: str, *arguments: Any) -> Any:
        if lost:
            return await fetch(lane, statement, *arguments)
        if committed:
            await fetch(lane, statement, *arguments)
        lost.append(statement)
        lane.driver.terminate()
        raise ConnectionResetError

    monkeypatch.setattr(Lane, "fetch", lose)
    assert await log.append(batches) == [Committed(1)] * many
    assert lost
    for batch in batches:
        assert len((await log.load(batch.document_id)).rows) == 1


async def test_a_held_row_is_waited_for_only_a_while_and_harms_no_later_append(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres._SESSION, "lock_timeout", "50")
    database = await Database.open(postgres_url)
    try:
        log = open_update_log(database)
        async with database.write() as connection:
            await connection.execute(a_document())
        async with database.write() as connection:
            await connection.execute(documents.update().values(title="held"))
            with pytest.raises(StorageUnavailable):
                await log.append([a_batch()])
        assert await log.append([a_batch()]) == [Committed(1)]
    finally:
        await database.close()


async def test_busy_rest_traffic_does_not_starve_the_log(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "POOL_WAIT_SECONDS", 0.05)
    database = await Database.open(postgres_url)
    try:
        log = open_update_log(database)
        async with database.write() as connection:
            await connection.execute(a_document())
        async with AsyncExitStack() as stack:
            for _ in range(postgres.REST_CONNECTIONS):
                await stack.enter_async_context(database.read())
            with pytest.raises(StorageUnavailable):
                await ids(database)
            assert await log.append([a_batch()]) == [Committed(1)]
            assert len((await log.load("a")).rows) == 1
    finally:
        await database.close()


async def test_a_full_disk_of_postgres_is_called_so(postgresql: Database) -> None:
    assert isinstance(postgresql.backend, Postgres)
    with pytest.raises(StorageFull):
        async with postgresql.write() as connection:
            await connection.execute(
                text("DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$")
            )
