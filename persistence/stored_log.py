"""What both adapters of the update log share: everything but ``append``."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgres
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence import payload
from persistence.database import Database
from persistence.tables import checkpoints, client_ids, documents, updates
from schemas.errors import CollabError, DocumentDamaged, DocumentNotFound
from schemas.records import Checkpoint, Head, LogRow, StoredDocument

log = logging.getLogger(__name__)

IDS_PER_QUERY = 500
CHECKPOINTS_KEPT = 2
ROWS_PER_TURN = 500  # of the event loop, 2 ms; then others are served
HASH_ASIDE_BYTES = 1024 * 1024  # 1 ms of hashing

_ROW = (updates.c.seq, updates.c.payload, updates.c.crc32, updates.c.created_at)


def utc_now() -> datetime:
    return datetime.now(UTC)


class StoredLog:
    """Reads, checkpoints and pruning of the log. ``now`` stamps rows; nothing is ever ordered by it."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now
        self._insert = insert_sqlite if database.dialect == "sqlite" else insert_postgres

    async def load(self, document_id: str) -> StoredDocument:
        async with self._database.log_read() as connection:
            head = await _head(connection, document_id)
            checkpoint = await _newest_good(connection, document_id, head.head_seq)
            start = checkpoint.seq if checkpoint else 0
            rows = await _rows(connection, document_id, start, head.head_seq)
            owners = await connection.execute(
                select(client_ids.c.client_id, client_ids.c.principal).where(
                    client_ids.c.document_id == document_id
                )
            )
            client_owners = {row.client_id: row.principal for row in owners}
        return StoredDocument(document_id, head.head_seq, head.acl_version, checkpoint, rows, client_owners)

    async def rows_after(self, document_id: str, seq: int) -> list[LogRow]:
        """``DocumentDamaged`` also when rows after ``seq`` are pruned: load the document anew."""
        async with self._database.log_read() as connection:
            head = await _head(connection, document_id)
            return list(await _rows(connection, document_id, seq, head.head_seq))

    async def heads(self, document_ids: Sequence[str]) -> Mapping[str, Head]:
        found: dict[str, Head] = {}
        async with self._database.log_read() as connection:
            for start in range(0, len(document_ids), IDS_PER_QUERY):
                rows = await connection.execute(
                    select(documents.c.id, documents.c.head_seq, documents.c.acl_version).where(
                        documents.c.id.in_(document_ids[start : start + IDS_PER_QUERY]),
                        documents.c.state == "active",
                    )
                )
                found.update((id_, Head(seq, acl)) for id_, seq, acl in rows)
        return found

    async def add_checkpoint(self, document_id: str, checkpoint: Checkpoint) -> None:
        packed = payload.pack_pieces(checkpoint.pieces, bytes_only=checkpoint.bytes_only)
        digest = payload.sha256(packed)
        async with self._database.write() as connection:
            head = await _head(connection, document_id)
            if not 0 < checkpoint.seq <= head.head_seq:
                raise ValueError(f"a checkpoint at {checkpoint.seq} of a log that ends at {head.head_seq}")
            await connection.execute(
                self._insert(checkpoints)
                .values(
                    document_id=document_id,
                    seq=checkpoint.seq,
                    payload=packed,
                    sha256=digest,
                    created_at=self._now(),
                )
                .on_conflict_do_nothing()
            )

    async def prune(self, document_id: str, *, rows_older_than: datetime) -> int:
        """Raises ``DocumentDamaged``, and deletes nothing, when a checkpoint to keep fails its checksum."""
        async with self._database.write() as connection:
            # The lock orders this with other nodes' prunes, and `bytes` with their appends.
            await _head(connection, document_id, lock=True)
            kept = await _checkpoints(connection, document_id)
            if len(kept) < CHECKPOINTS_KEPT:
                return 0
            for row in kept[:CHECKPOINTS_KEPT]:
                await _checked(row)
            covered = kept[CHECKPOINTS_KEPT - 1].seq
            await connection.execute(
                delete(checkpoints).where(checkpoints.c.document_id == document_id, checkpoints.c.seq < covered)
            )
            return await _delete_rows(connection, document_id, covered, rows_older_than)

    async def document_ids(self) -> AsyncIterator[str]:
        """Every document that is not deleted, in the order of the ids."""
        after = ""
        while True:
            async with self._database.log_read() as connection:
                page = await connection.execute(
                    select(documents.c.id)
                    .where(documents.c.id > after, documents.c.state == "active")
                    .order_by(documents.c.id)
                    .limit(IDS_PER_QUERY)
                )
                ids = list(page.scalars())
            if not ids:
                return
            for id_ in ids:
                yield id_
            after = ids[-1]


async def _head(connection: AsyncConnection, document_id: str, *, lock: bool = False) -> Head:
    query = select(documents.c.head_seq, documents.c.acl_version).where(
        documents.c.id == document_id, documents.c.state == "active"
    )
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise DocumentNotFound
    return Head(row.head_seq, row.acl_version)


async def _checkpoints(connection: AsyncConnection, document_id: str) -> list[Row[int, bytes, bytes]]:
    found = await connection.execute(
        select(checkpoints.c.seq, checkpoints.c.payload, checkpoints.c.sha256)
        .where(checkpoints.c.document_id == document_id)
        .order_by(checkpoints.c.seq.desc())
        .limit(CHECKPOINTS_KEPT)
    )
    return list(found.all())


async def _checked(row: Row[int, bytes, bytes]) -> Checkpoint:
    big = len(row.payload) > HASH_ASIDE_BYTES  # hashing releases the GIL
    digest = await asyncio.to_thread(payload.sha256, row.payload) if big else payload.sha256(row.payload)
    if digest != row.sha256:
        raise DocumentDamaged(f"The checkpoint at {row.seq} fails its checksum.")
    return Checkpoint(row.seq, payload.unpack_pieces(row.payload), payload.is_bytes_only(row.payload))


async def _newest_good(connection: AsyncConnection, document_id: str, head: int) -> Checkpoint | None:
    """None when there is none: then the rows must reach back to the first."""
    for row in await _checkpoints(connection, document_id):
        try:
            if row.seq > head:
                raise DocumentDamaged(f"The checkpoint at {row.seq} is newer than the log's head {head}.")
            return await _checked(row)
        except CollabError as error:
            log.error("document %s: %s Falling back to the one before.", document_id, error)
    return None


async def _rows(connection: AsyncConnection, document_id: str, after: int, head: int) -> tuple[LogRow, ...]:
    """Rows ``after`` + 1 to ``head``; raises ``DocumentDamaged`` unless each is there and good."""
    found = await connection.execute(
        select(*_ROW).where(updates.c.document_id == document_id, updates.c.seq > after).order_by(updates.c.seq)
    )
    rows: list[LogRow] = []
    for seq, packed, crc, created_at in found:
        if seq != after + len(rows) + 1:
            break
        if payload.crc32(packed) != crc:
            raise DocumentDamaged(f"Row {seq} of the log fails its checksum.")
        rows.append(LogRow(seq, payload.unpack_entries(packed), created_at, payload.is_bytes_only(packed)))
        if len(rows) % ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
    if after + len(rows) != max(head, after):
        raise DocumentDamaged(f"Row {after + len(rows) + 1} of the log is missing; its head is {head}.")
    return tuple(rows)


async def _delete_rows(connection: AsyncConnection, document_id: str, covered: int, older_than: datetime) -> int:
    """Rows go from the beginning only, so that what stays has no gap even when a clock went back."""
    mine = updates.c.document_id == document_id
    first_kept = (
        await connection.execute(
            select(func.min(updates.c.seq)).where(
                mine, updates.c.seq <= covered, updates.c.created_at >= older_than
            )
        )
    ).scalar_one()
    doomed = mine & (updates.c.seq <= (covered if first_kept is None else first_kept - 1))
    count, size = (
        await connection.execute(
            select(func.count(), func.coalesce(func.sum(func.length(updates.c.payload)), 0)).where(doomed)
        )
    ).one()
    if count:
        await connection.execute(delete(updates).where(doomed))
        await connection.execute(
            update(documents).where(documents.c.id == document_id).values(bytes=documents.c.bytes - size)
        )
    return int(count)
