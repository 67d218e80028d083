"""The update log on SQLite: a whole append is one function on the writer's thread."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from persistence import payload
from persistence.database import Database
from persistence.faults import storage_errors
from persistence.sqlite import Sqlite
from persistence.stored_log import StoredLog, utc_now
from schemas.errors import DocumentDamaged, DocumentNotFound
from schemas.records import AccessChanged, Batch, ClaimConflict, Committed, Outcome, Refused

_BUMP = (
    "UPDATE documents SET head_seq = head_seq + 1, bytes = bytes + ? "
    "WHERE id = ? AND state = 'active' AND acl_version = ? RETURNING head_seq"
)
_UNDO = "UPDATE documents SET head_seq = head_seq - 1, bytes = bytes - ? WHERE id = ?"
_INSERT = (
    "INSERT INTO updates (document_id, seq, batch_id, payload, crc32, created_at) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (document_id, batch_id) DO NOTHING"
)
_FIND = "SELECT seq FROM updates WHERE document_id = ? AND batch_id = ?"
_WHY = "SELECT state, acl_version FROM documents WHERE id = ?"
_OWNER = "SELECT principal FROM client_ids WHERE document_id = ? AND client_id = ?"
_CLAIM = (
    "INSERT INTO client_ids (document_id, client_id, principal, first_seq) VALUES (?, ?, ?, ?) "
    "ON CONFLICT DO NOTHING"
)


class SqliteLog(StoredLog):
    """``UpdateLog`` of ports.py on SQLite."""

    def __init__(self, database: Database, backend: Sqlite, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(database, now)
        self._backend = backend

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        if not batches:
            return []
        created_at = (
            self._now().astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        )  # as tables.Timestamp
        packed = [payload.pack_entries(batch.entries, cuts=batch.cuts) for batch in batches]
        with storage_errors():
            return await self._backend.run(lambda connection: _append(connection, batches, packed, created_at))


def _append(
    connection: sqlite3.Connection, batches: Sequence[Batch], packed: Sequence[bytes], created_at: str
) -> list[Outcome]:
    execute = connection.execute
    execute("BEGIN IMMEDIATE")
    try:
        outcomes = [
            _append_one(execute, batch, data, created_at) for batch, data in zip(batches, packed, strict=True)
        ]
        execute("COMMIT")
    except BaseException:
        # A failed COMMIT may or may not have ended the transaction. Whatever was written is found by its
        # batch id when the batches come again.
        if connection.in_transaction:
            execute("ROLLBACK")
        raise
    return outcomes


def _append_one(execute: Callable[..., sqlite3.Cursor], batch: Batch, data: bytes, created_at: str) -> Outcome:
    document_id = batch.document_id
    conflict = _foreign(execute, document_id, batch.claims) if batch.claims else None
    if conflict:
        return ClaimConflict(conflict)
    bumped = execute(_BUMP, (len(data), document_id, batch.acl_version)).fetchall()
    if not bumped:
        return _why_not(execute, batch)
    seq: int = bumped[0][0]
    try:
        row = (document_id, seq, batch.batch_id, data, payload.crc32(data), created_at)
        written = execute(_INSERT, row).rowcount
    except sqlite3.IntegrityError:  # row `seq` is there already: head_seq is behind the log
        execute(_UNDO, (len(data), document_id))
        return Refused(DocumentDamaged(f"The log has a row after its head {seq - 1}."))
    if not written:
        execute(_UNDO, (len(data), document_id))
        return Committed(execute(_FIND, (document_id, batch.batch_id)).fetchone()[0])
    for client_id, principal in batch.claims.items():
        execute(_CLAIM, (document_id, client_id, principal, seq))
    return Committed(seq)


def _foreign(
    execute: Callable[..., sqlite3.Cursor], document_id: str, claims: Mapping[int, str]
) -> dict[int, str]:
    """Claimed client ids that belong to somebody else. Nobody can claim one meanwhile: this is the writer."""
    foreign: dict[int, str] = {}
    for client_id, principal in claims.items():
        owner = execute(_OWNER, (document_id, client_id)).fetchone()
        if owner is not None and owner[0] != principal:
            foreign[client_id] = owner[0]
    return foreign


def _why_not(execute: Callable[..., sqlite3.Cursor], batch: Batch) -> Outcome:
    found = execute(_FIND, (batch.document_id, batch.batch_id)).fetchone()
    if found is not None:  # written before the access changed, and the answer was lost
        return Committed(found[0])
    document = execute(_WHY, (batch.document_id,)).fetchone()
    if document is None or document[0] != "active":
        return Refused(DocumentNotFound())
    return AccessChanged(document[1])
