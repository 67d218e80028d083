"""What peers and live documents say to each other, whatever the client family.

The dialects translate frames to and from these values. Names as in y-protocols.
"""

from dataclasses import dataclass

from schemas.errors import CollabError


@dataclass(frozen=True, slots=True)
class SyncStep1:
    """``state_vector`` (V1): what the sender has; the receiver answers with what is missing there."""

    state_vector: bytes


@dataclass(frozen=True, slots=True)
class SyncStep2:
    """The answer to a SyncStep1: an update (V1) with everything the asker lacks."""

    update: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """A change (update V1)."""

    update: bytes


@dataclass(frozen=True, slots=True)
class Awareness:
    """Presence: varuint n, then n times (varuint client id, varuint clock, varstring JSON or ``null``)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class QueryAwareness:
    """Asks for every presence state known."""


@dataclass(frozen=True, slots=True)
class SaveQuery:
    """Asks to be told ``version`` when everything sent up to here is saved."""

    version: bytes


@dataclass(frozen=True, slots=True)
class SaveEcho:
    """Everything the peer had sent before its query for ``version`` is saved."""

    version: bytes


Inbound = SyncStep1 | SyncStep2 | Update | Awareness | QueryAwareness | SaveQuery


@dataclass(frozen=True, slots=True)
class NotSaved:
    """An update of this peer was refused: it is not in the document and never will be."""

    error: CollabError


@dataclass(frozen=True, slots=True)
class Denied:
    """This peer may not use the document (any more)."""

    error: CollabError


@dataclass(frozen=True, slots=True)
class Granted:
    """This peer may use the document; ``may_write`` tells how."""

    may_write: bool


@dataclass(frozen=True, slots=True)
class CredentialWanted:
    """The credential ends soon: send a new one."""


Outbound = SyncStep1 | SyncStep2 | Update | Awareness | SaveEcho | NotSaved | Denied | Granted | CredentialWanted
EMPTY_AWARENESS = Awareness(b"\x00")
"""Says nothing, and is understood by every client of every family: the keep-alive."""
EMPTY_UPDATE = b"\x00\x00"
EMPTY_STATE_VECTOR = b"\x00"
