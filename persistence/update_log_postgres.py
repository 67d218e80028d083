"""The update log on Postgres.

The common case is one prepared statement, which is its own transaction: bump the heads, insert the rows and
the claims. It is optimistic: anything unusual (a batch written before, a claimed client id, two batches of
one document) violates a unique constraint or matches no row, writes nothing, and goes the careful way, where
the documents are locked first and everything is decided with what is then seen.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from persistence import payload
from persistence.database import Database
from persistence.faults import storage_errors
from persistence.postgres import Lane, Postgres
from persistence.stored_log import StoredLog, utc_now
from schemas.errors import DocumentDamaged, DocumentNotFound, StorageUnavailable
from schemas.records import AccessChanged, Batch, ClaimConflict, Committed, Outcome, Refused

APPEND_SECONDS = 10  # above the timeouts of the server: only a dead network gets here
ATTEMPTS = 2  # a second one when the connection was lost

_ONE = """
WITH bumped AS (
    UPDATE documents SET head_seq = head_seq + 1, bytes = bytes + octet_length($4::bytea)
    WHERE id = $1 AND state = 'active' AND acl_version = $2
    RETURNING id, head_seq
)
INSERT INTO updates (document_id, seq, batch_id, payload, crc32, created_at)
SELECT id, head_seq, $3, $4, $5, $6 FROM bumped RETURNING document_id, seq
"""

# Rows are locked in the order of their ids, so that two nodes with the same documents never deadlock.
_MANY = """
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[])
        AS i (document_id, acl_version, batch_id, payload, crc32)
), locked AS MATERIALIZED (
    SELECT id FROM documents WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE
), bumped AS (
    UPDATE documents d SET head_seq = d.head_seq + 1, bytes = d.bytes + octet_length(i.payload)
    FROM locked l JOIN input i ON i.document_id = l.id
    WHERE d.id = l.id AND d.state = 'active' AND d.acl_version = i.acl_version
    RETURNING d.id, d.head_seq, i.batch_id, i.payload, i.crc32
), claimed AS (
    INSERT INTO client_ids (document_id, client_id, principal, first_seq)
    SELECT b.id, c.client_id, c.principal, b.head_seq
    FROM unnest($7::text[], $8::bigint[], $9::text[]) AS c (document_id, client_id, principal)
    JOIN bumped b ON b.id = c.document_id
)
INSERT INTO updates (document_id, seq, batch_id, payload, crc32, created_at)
SELECT id, head_seq, batch_id, payload, crc32, $6 FROM bumped RETURNING document_id, seq
"""

_LOCK = """
SELECT d.id, d.state, d.acl_version, d.head_seq FROM documents d
WHERE d.id = ANY ($1::text[]) ORDER BY d.id FOR NO KEY UPDATE
"""
_LAST = """
SELECT i.id, (SELECT max(u.seq) FROM updates u WHERE u.document_id = i.id) AS seq
FROM unnest($1::text[]) AS i (id)
"""
_WRITTEN = """
SELECT u.document_id, u.batch_id, u.seq
FROM unnest($1::text[], $2::bytea[]) AS i (document_id, batch_id) JOIN updates u USING (document_id, batch_id)
"""
_OWNERS = """
SELECT c.document_id, c.client_id, c.principal
FROM unnest($1::text[], $2::bigint[]) AS i (document_id, client_id)
JOIN client_ids c USING (document_id, client_id)
"""
_BUMP = """
UPDATE documents d SET head_seq = i.head_seq, bytes = d.bytes + i.bytes
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS i (document_id, head_seq, bytes)
WHERE d.id = i.document_id
"""
_INSERT = """
INSERT INTO updates (document_id, seq, batch_id, payload, crc32, created_at)
SELECT i.*, $6 FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[]) AS i
"""
_CLAIM = """
INSERT INTO client_ids (document_id, client_id, principal, first_seq)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[]) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A batch on its way, at its place in the caller's list."""

    place: int
    batch: Batch
    data: bytes
    crc32: int


@dataclass(slots=True)
class _Seen:
    """What the careful way knows of the locked documents, kept up to date while it decides."""

    documents: dict[str, asyncpg.Record]
    last: dict[str, int | None]
    written: dict[tuple[str, bytes], int]
    owners: dict[tuple[str, int], str]
    heads: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[int, _Row]] = field(default_factory=list)
    claims: list[tuple[str, int, str, int]] = field(default_factory=list)


class PostgresLog(StoredLog):
    """``UpdateLog`` of ports.py on Postgres."""

    def __init__(self, database: Database, backend: Postgres, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(database, now)
        self._backend = backend

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        if not batches:
            return []
        rows = [_row(place, batch) for place, batch in enumerate(batches)]
        attempt = 1
        while True:
            lane: Lane | None = None
            try:
                with storage_errors(connecting=True):
                    async with asyncio.timeout(APPEND_SECONDS), self._backend.lane() as lane:
                        outcomes = await self._append(lane, rows, again=attempt > 1)
                return [outcomes[place] for place in range(len(batches))]
            except StorageUnavailable:
                if attempt == ATTEMPTS or lane is None or not lane.lost:
                    raise
                attempt += 1

    async def _append(self, lane: Lane, rows: Sequence[_Row], *, again: bool) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        documents = {row.batch.document_id for row in rows}
        if not again and len(documents) == len(rows):
            with suppress(asyncpg.UniqueViolationError):  # nothing was written: the careful way finds out why
                outcomes = await self._at_once(lane, rows)
        left = [row for row in rows if row.place not in outcomes]
        if left:
            outcomes.update(await self._carefully(lane, left))
        return outcomes

    async def _at_once(self, lane: Lane, rows: Sequence[_Row]) -> dict[int, Outcome]:
        """One statement, one transaction. What is absent from the answer was not written."""
        claims = [(r.batch.document_id, *claim) for r in rows for claim in r.batch.claims.items()]
        if len(rows) == 1 and not claims:
            (row,) = rows
            batch = row.batch
            found = await lane.fetch(
                _ONE, batch.document_id, batch.acl_version, batch.batch_id, row.data, row.crc32, self._now()
            )
        else:
            found = await lane.fetch(
                _MANY,
                [row.batch.document_id for row in rows],
                [row.batch.acl_version for row in rows],
                [row.batch.batch_id for row in rows],
                [row.data for row in rows],
                [row.crc32 for row in rows],
                self._now(),
                *_columns(claims, 3),
            )
        places = {row.batch.document_id: row.place for row in rows}
        return {places[document_id]: Committed(seq) for document_id, seq in found}

    async def _carefully(self, lane: Lane, rows: Sequence[_Row]) -> dict[int, Outcome]:
        """Lock, look, decide, write: one transaction of a few round trips, whatever the number of rows."""
        async with lane.driver.transaction():
            ids = sorted({row.batch.document_id for row in rows})
            locked = await lane.fetch(_LOCK, ids)
            # Statements after the lock see whatever was committed before it was given.
            seen = _Seen(
                documents={record["id"]: record for record in locked},
                last={record["id"]: record["seq"] for record in await lane.fetch(_LAST, ids)},
                written=await _written(lane, rows),
                owners=await _owners(lane, rows),
            )
            outcomes = {row.place: _decide(seen, row) for row in rows}
            if seen.rows:
                await self._write(lane, seen)
            return outcomes

    async def _write(self, lane: Lane, seen: _Seen) -> None:
        ids = list(seen.bytes)
        await lane.fetch(_BUMP, ids, [seen.heads[id_] for id_ in ids], [seen.bytes[id_] for id_ in ids])
        rows = [(row.batch.document_id, seq, row.batch.batch_id, row.data, row.crc32) for seq, row in seen.rows]
        await lane.fetch(_INSERT, *_columns(rows, 5), self._now())
        if seen.claims:
            await lane.fetch(_CLAIM, *_columns(seen.claims, 4))


def _row(place: int, batch: Batch) -> _Row:
    data = payload.pack_entries(batch.entries, cuts=batch.cuts)
    return _Row(place, batch, data, payload.crc32(data))


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[column] for row in rows] for column in range(width)]


async def _written(lane: Lane, rows: Sequence[_Row]) -> dict[tuple[str, bytes], int]:
    found = await lane.fetch(
        _WRITTEN, [row.batch.document_id for row in rows], [row.batch.batch_id for row in rows]
    )
    return {(document_id, batch_id): seq for document_id, batch_id, seq in found}


async def _owners(lane: Lane, rows: Sequence[_Row]) -> dict[tuple[str, int], str]:
    claims = [(row.batch.document_id, client_id) for row in rows for client_id in row.batch.claims]
    if not claims:
        return {}
    found = await lane.fetch(_OWNERS, *_columns(claims, 2))
    return {(document_id, client_id): principal for document_id, client_id, principal in found}


def _decide(seen: _Seen, row: _Row) -> Outcome:
    """The outcome of one batch, given all before it."""
    batch = row.batch
    id_ = batch.document_id
    if (seq := seen.written.get((id_, batch.batch_id))) is not None:
        return Committed(seq)
    document = seen.documents.get(id_)
    if document is None or document["state"] != "active":
        return Refused(DocumentNotFound())
    if document["acl_version"] != batch.acl_version:
        return AccessChanged(document["acl_version"])
    foreign = {
        client_id: owner
        for client_id, principal in batch.claims.items()
        if (owner := seen.owners.get((id_, client_id), principal)) != principal
    }
    if foreign:
        return ClaimConflict(foreign)
    head = seen.heads.get(id_, document["head_seq"])
    if (seen.last[id_] or 0) > document["head_seq"]:
        return Refused(DocumentDamaged(f"The log has a row after its head {head}."))
    seq = seen.heads[id_] = head + 1
    seen.bytes[id_] = seen.bytes.get(id_, 0) + len(row.data)
    seen.written[id_, batch.batch_id] = seq
    seen.rows.append((seq, row))
    for client_id, principal in batch.claims.items():
        seen.owners[id_, client_id] = principal
        seen.claims.append((id_, client_id, principal, seq))
    return Committed(seq)
