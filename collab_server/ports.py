"""The seams: what the hub needs from storage, from other nodes and from time.

A Protocol stands here only where two real implementations do. Adapters fit structurally and never import
it; each port has one contract suite in ``tests/contract`` that every adapter passes.
The value types that cross the seams live in ``schemas/records.py``, where both sides may see them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from schemas.records import Batch, Checkpoint, Head, LogRow, Outcome, StoredDocument


class UpdateLog(Protocol):
    """The append-only log of every document: SQLite and Postgres.

    Any method may raise ``StorageUnavailable`` (try again) or ``StorageFull``.
    """

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Write all batches in ONE transaction and return after it is committed and fsynced.

        One outcome per batch, in order. A refused batch writes nothing and does not stop the others.
        Idempotent by ``batch_id``: a batch whose earlier commit succeeded but whose answer was lost
        comes back as ``Committed`` with its first seq and is not written twice.
        """

    async def load(self, document_id: str) -> StoredDocument:
        """The newest good checkpoint, every row after it, and the client id owners, as one consistent read.

        Raises ``DocumentNotFound``, or ``DocumentDamaged`` when a row fails its checksum or one is missing.
        """

    async def rows_after(self, document_id: str, seq: int) -> list[LogRow]:
        """Rows with a number greater than ``seq``, ascending and gapless. Raises ``DocumentNotFound``."""

    async def heads(self, document_ids: Sequence[str]) -> Mapping[str, Head]:
        """Where each document stands; a deleted or unknown one is absent."""

    async def add_checkpoint(self, document_id: str, checkpoint: Checkpoint) -> None:
        """Store a verified checkpoint beside the older ones. Storing the same seq twice is harmless."""

    async def prune(self, document_id: str, *, rows_older_than: datetime) -> int:
        """Keep the two newest checkpoints; delete rows that the older of the two covers and that were
        written before ``rows_older_than`` (UTC). Returns the number of rows deleted."""


class Clock(Protocol):
    """Time, handed in."""

    def now(self) -> datetime:
        """UTC, timezone-aware."""

    def monotonic(self) -> float:
        """Seconds since some fixed point, never going back."""
