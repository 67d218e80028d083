"""Connections and trouble on Postgres: crashes, lost answers, held rows, busy pools."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from persistence import postgres
from persistence.database import Database
from persistence.faults import StorageRefused
from persistence.postgres import Lane, Postgres
from persistence.tables import documents
from persistence.update_log import open_update_log
from schemas.errors import StorageFull, StorageUnavailable
from schemas.records import Committed
from tests.backends import PostgresServer
from tests.integration.stored import a_batch, a_document, ids


@pytest.fixture
async def postgresql(postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(postgres_url)
    yield opened
    await opened.close()


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
