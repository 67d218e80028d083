"""What the core wants done, in this order. Each effect is O(1): never one per receiver."""

from dataclasses import dataclass

from collab_server.live.messages import Outbound
from schemas.errors import CollabError

PeerId = int


@dataclass(frozen=True, slots=True)
class Append:
    """Put ``update`` into the open batch; after its commit show it to the others and ack ``acks`` messages.

    ``claims`` are client ids that ``sender`` writes under for the first time in this document. ``cuts``: it
    separates the halves of a surrogate pair, and the row has to say so.
    """

    sender: PeerId
    update: bytes
    claims: tuple[int, ...]
    acks: int
    cuts: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """``count`` messages of ``peer`` brought nothing new: ack them once all that is open is committed."""

    peer: PeerId
    count: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Send to one peer. ``shows_content``: hold it back until all that is open is committed, and send it before
    the batch is shown. ``promises``: hold it back as well, and send it behind the batch's acks."""

    peer: PeerId
    message: Outbound
    shows_content: bool = False
    promises: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """End this peer: it sent something it must not, or has lost its place."""

    peer: PeerId
    error: CollabError


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """Some presence states changed: ask for the frame at the next tick."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The engine broke while it applied an update of ``peer``: this ``Doc`` must not be used any more."""

    peer: PeerId
    reason: str


Effect = Append | Ack | Reply | Close | PresenceChanged | Poisoned
