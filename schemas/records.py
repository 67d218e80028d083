"""Values that cross the seam between the hub and the update log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from schemas.errors import CollabError


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted update: ``update`` is Yjs update format V1, byte for byte as received."""

    principal: str
    update: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What one flush writes for one document: one row of its log.

    ``batch_id`` is 16 random bytes, so that a commit whose answer was lost can be recognised.
    ``acl_version`` is the document's access version under which the entries were accepted; when the stored
    one differs, the batch is refused with ``AccessChanged`` and the hub re-checks every entry's principal.
    ``claims`` maps client ids written here for the first time to the principal that now owns them.
    ``cuts``: an update in here separates the halves of a surrogate pair. The engine cannot hold such a document;
    from this row on it is only merged as bytes.
    """

    document_id: str
    batch_id: bytes
    acl_version: int
    entries: tuple[Entry, ...]
    claims: Mapping[int, str] = field(default_factory=dict)
    cuts: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """The batch is row ``seq`` of its document, committed and fsynced."""

    seq: int


@dataclass(frozen=True, slots=True)
class AccessChanged:
    """Nothing was written: the document's grants changed since the entries were accepted."""

    acl_version: int


@dataclass(frozen=True, slots=True)
class ClaimConflict:
    """Nothing was written: ``owners`` maps claimed client ids to the other principal that owns them."""

    owners: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was written and trying again is pointless: the document is gone or not writable."""

    error: CollabError


Outcome = Committed | AccessChanged | ClaimConflict | Refused


@dataclass(frozen=True, slots=True)
class LogRow:
    """Row ``seq`` (1, 2, 3, … without gaps) of a document's log."""

    seq: int
    entries: tuple[Entry, ...]
    created_at: datetime
    cuts: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Rows 1..``seq`` merged: ``pieces`` are V1 updates that, applied in order, give that state."""

    seq: int
    pieces: tuple[bytes, ...]
    bytes_only: bool = False


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """Everything needed to bring a document to life."""

    document_id: str
    head_seq: int
    acl_version: int
    checkpoint: Checkpoint | None
    rows: tuple[LogRow, ...]
    client_owners: Mapping[int, str]

    @property
    def bytes_only(self) -> bool:
        """The engine must not be given this document: see ``Batch.cuts``."""
        return (self.checkpoint is not None and self.checkpoint.bytes_only) or any(row.cuts for row in self.rows)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a document stands in storage."""

    head_seq: int
    acl_version: int
