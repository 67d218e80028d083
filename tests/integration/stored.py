"""Documents and batches for the tests of the database."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select

from persistence.database import Database
from persistence.tables import documents
from schemas.records import Batch, Entry

NOW = datetime(2030, 1, 1, tzinfo=UTC)
_numbers = iter(range(1, 1_000_000))


def a_document(document_id: str = "a") -> Any:
    return insert(documents).values(id=document_id, kind="document", title="", created_at=NOW, updated_at=NOW)


def a_batch(document_id: str = "a", content: bytes = b"x") -> Batch:
    return Batch(document_id, next(_numbers).to_bytes(16), 1, (Entry("account:alice", content),))


async def ids(database: Database) -> list[str]:
    async with database.read() as connection:
        return sorted((await connection.execute(select(documents.c.id))).scalars())
