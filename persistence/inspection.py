"""Every stored byte of a document, looked at: for the operator, never on the path of a request."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence import payload
from persistence.database import Database
from persistence.stored_log import CHECKPOINTS_KEPT
from persistence.tables import checkpoints, documents, updates
from schemas.errors import CollabError

ROWS_PER_PAGE = 200

Check = Callable[[bytes], object]
"""Raises ``CollabError`` for bytes that are not what they should be."""


@dataclass(slots=True)
class Inspection:
    """What was seen of one document; ``findings`` are sentences, none when all is well."""

    document_id: str
    rows: int = 0
    checkpoints: int = 0
    bytes: int = 0
    findings: list[str] = field(default_factory=list)


async def count_documents(database: Database) -> int:
    """Those that are not deleted."""
    async with database.log_read() as connection:
        query = select(func.count()).select_from(documents).where(documents.c.state == "active")
        return int((await connection.execute(query)).scalar_one())


async def inspect_file(database: Database) -> list[str]:
    """What SQLite itself finds wrong with its file; Postgres has tools of its own (pg_amcheck)."""
    if database.dialect != "sqlite":
        return []
    async with database.read() as connection:
        found = (await connection.execute(text("PRAGMA quick_check"))).scalars().all()
    return [] if list(found) == ["ok"] else [str(line) for line in found]


async def inspect_document(
    database: Database, document_id: str, *, check_update: Check, check_piece: Check
) -> Inspection:
    """Checksums, numbers and contents of every row and checkpoint of one document, as one consistent read."""
    seen = Inspection(document_id)
    async with database.log_read() as connection:
        query = select(documents.c.head_seq).where(documents.c.id == document_id, documents.c.state == "active")
        head = (await connection.execute(query)).scalar_one_or_none()
        if head is None:  # deleted since it was listed
            return seen
        covered = await _checkpoints(connection, seen, head, check_piece)
        await _rows(connection, seen, head, covered, check_update)
    return seen


async def _checkpoints(connection: AsyncConnection, seen: Inspection, head: int, check: Check) -> int:
    """The number of the row after which all rows must be there."""
    found = await connection.execute(
        select(checkpoints.c.seq, checkpoints.c.payload, checkpoints.c.sha256)
        .where(checkpoints.c.document_id == seen.document_id)
        .order_by(checkpoints.c.seq.desc())
    )
    kept: list[int] = []
    for seq, packed, digest in found:
        seen.checkpoints += 1
        seen.bytes += len(packed)
        kept.append(seq)
        if seq > head:
            seen.findings.append(f"checkpoint {seq} is newer than the head {head}")
        if payload.sha256(packed) != digest:
            seen.findings.append(f"checkpoint {seq} fails its checksum")
            continue
        _content(seen, f"checkpoint {seq}", payload.unpack_pieces, packed, check)
    # Until there are two checkpoints, nothing was ever pruned.
    return kept[CHECKPOINTS_KEPT - 1] if len(kept) >= CHECKPOINTS_KEPT else 0


async def _rows(connection: AsyncConnection, seen: Inspection, head: int, covered: int, check: Check) -> None:
    last: int | None = None
    while True:
        page = await _page(connection, seen.document_id, last or 0)
        for seq, packed, crc in page:
            seen.rows += 1
            seen.bytes += len(packed)
            expected = covered + 1 if last is None else last + 1
            if seq > expected or (last is not None and seq != expected):
                seen.findings.append(f"rows {expected} to {seq - 1} are missing")
            if payload.crc32(packed) != crc:
                seen.findings.append(f"row {seq} fails its checksum")
            else:
                _content(seen, f"row {seq}", _updates, packed, check)
            last = seq
        if len(page) < ROWS_PER_PAGE:
            break
    end = covered if last is None else last
    if end != head:
        what = f"rows {end + 1} to {head} are missing" if end < head else f"rows stand after the head {head}"
        seen.findings.append(what)


async def _page(connection: AsyncConnection, document_id: str, after: int) -> list[Row[int, bytes, int]]:
    found = await connection.execute(
        select(updates.c.seq, updates.c.payload, updates.c.crc32)
        .where(updates.c.document_id == document_id, updates.c.seq > after)
        .order_by(updates.c.seq)
        .limit(ROWS_PER_PAGE)
    )
    return list(found.all())


def _updates(packed: bytes) -> tuple[bytes, ...]:
    return tuple(entry.update for entry in payload.unpack_entries(packed))


def _content(
    seen: Inspection, where: str, unpack: Callable[[bytes], tuple[bytes, ...]], packed: bytes, check: Check
) -> None:
    try:
        for part in unpack(packed):
            check(part)
    except CollabError as error:
        seen.findings.append(f"{where} cannot be read: {error.detail}")
