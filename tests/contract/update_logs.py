"""Documents and batches for the contract of the update log."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update

from collab_server.ports import UpdateLog
from persistence.database import Database
from persistence.tables import documents
from schemas.records import (
    Batch,
    Entry,
)

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
ALICE, BOB = "account:alice", "account:bob"


class Time:
    """The time the log stamps rows with."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


async def add_document(database: Database, document_id: str) -> None:
    async with database.write() as connection:
        await connection.execute(
            insert(documents).values(id=document_id, kind="document", title="", created_at=START, updated_at=START)
        )


async def change(database: Database, document_id: str, **values: Any) -> None:
    async with database.write() as connection:
        await connection.execute(update(documents).where(documents.c.id == document_id).values(**values))


async def stored(database: Database, document_id: str) -> Mapping[str, Any]:
    async with database.read() as connection:
        rows = await connection.execute(select(documents).where(documents.c.id == document_id))
        return rows.mappings().one()


def batch(
    document_id: str = "a",
    *contents: bytes,
    acl_version: int = 1,
    batch_id: bytes | None = None,
    principal: str = ALICE,
    claims: Mapping[int, str] | None = None,
) -> Batch:
    return Batch(
        document_id,
        batch_id or os.urandom(16),
        acl_version,
        tuple(Entry(principal, content) for content in contents or (b"\x00\x00",)),
        claims or {},
    )


async def append(log: UpdateLog, *batches: Batch) -> list[Any]:
    return await log.append(batches)


async def append_numbered(log: UpdateLog, count: int, document_id: str = "a") -> None:
    for number in range(count):
        await append(log, batch(document_id, bytes([number])))


def seqs(rows: Any) -> list[int]:
    return [row.seq for row in rows]
