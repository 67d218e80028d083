"""An update log of either kind, with the documents a, b and c."""

from collections.abc import AsyncIterator

import pytest

from collab_server.ports import UpdateLog
from persistence.database import Database
from persistence.update_log import open_update_log
from tests.contract.update_logs import Time, add_document


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def log(database: Database, time: Time) -> UpdateLog:
    for document_id in ("a", "b", "c"):
        await add_document(database, document_id)
    return open_update_log(database, time)


@pytest.fixture
async def other_node(database_url: str, database: Database) -> AsyncIterator[UpdateLog]:
    """A second server on the same database: another process on Postgres, another caller on SQLite."""
    if database.dialect == "sqlite":
        yield open_update_log(database)
        return
    theirs = await Database.open(database_url)
    yield open_update_log(theirs)
    await theirs.close()
