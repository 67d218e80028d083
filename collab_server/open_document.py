"""A live document with what stands around it: its peers, its open batch, and how far its log is applied."""

import asyncio
import os
from dataclasses import dataclass, field

from collab_server.audience import Audience
from collab_server.dialects.sync_body import encode_body
from collab_server.live.document import LiveDocument
from collab_server.live.effects import Append, PeerId
from collab_server.live.messages import Awareness, Update
from collab_server.live.replica import merged
from collab_server.peers import Peer
from collab_server.services.access import Access
from schemas.records import Batch, Entry

MAX_HELD_ANSWERS = 16  # of one peer; each may be the whole document

Author = tuple[str, str]
"""Account and session."""


@dataclass(slots=True)
class OpenBatch:
    """Accepted and applied, not yet committed: one row of the log to be."""

    batch_id: bytes = field(default_factory=lambda: os.urandom(16))
    entries: list[Entry] = field(default_factory=list)
    senders: list[PeerId] = field(default_factory=list)  # of each entry
    authors: dict[Author, Access] = field(default_factory=dict)  # as of the oldest look at each
    claims: dict[int, str] = field(default_factory=dict)
    acks: dict[Peer, int] = field(default_factory=dict)
    held: dict[Peer, list[bytes]] = field(default_factory=dict)  # answers that show what is in here
    promises: dict[Peer, bytes] = field(default_factory=dict)  # answers that call it saved
    size: int = 0  # bytes of all updates
    cuts: bool = False

    @property
    def acl_version(self) -> int:
        """The grants under which all of it was accepted."""
        return min(access.acl_version for access in self.authors.values())

    def add_author(self, access: Access) -> None:
        author = (access.account_id, access.session_id)
        known = self.authors.get(author)
        if known is None or access.acl_version < known.acl_version:
            self.authors[author] = access

    def owe(self, peer: Peer, count: int) -> None:
        """``count`` more messages of ``peer`` are to be acked after the commit."""
        if count:
            self.acks[peer] = self.acks.get(peer, 0) + count

    def hold(self, peer: Peer, frame: bytes) -> bool:
        """Keep an answer until the commit. False when too many of this peer wait already."""
        frames = self.held.setdefault(peer, [])
        if len(frames) >= MAX_HELD_ANSWERS:
            return False
        frames.append(frame)
        return True

    def absorb(self, later: "OpenBatch") -> None:
        """Take over everything that came after this batch."""
        self.entries += later.entries
        self.senders += later.senders
        self.claims |= later.claims
        self.promises |= later.promises
        self.size += later.size
        self.cuts |= later.cuts
        for access in later.authors.values():
            self.add_author(access)
        for peer, frames in later.held.items():
            self.held.setdefault(peer, []).extend(frames)
        for peer, count in later.acks.items():
            self.owe(peer, count)


class OpenDocument:
    """At most one batch gathers (``gathering``) while at most one is being committed (``committing``)."""

    def __init__(self, document_id: str, live: LiveDocument, applied: int, acl_version: int) -> None:
        self.id = document_id
        self.live = live
        self.peers = Audience()
        self.gathering: OpenBatch | None = None
        self.committing: OpenBatch | None = None
        self.acl_version = acl_version  # the newest grants heard of
        self.applied = applied  # every row up to here is in the Doc
        self.ahead: set[int] = set()  # rows beyond the first hole that are in the Doc as well
        self.rows_since_checkpoint = 0
        self.presence_scheduled = False
        self.catching_up = asyncio.Lock()
        self.closed = False
        self.idle_since = 0.0

    @property
    def unsaved_bytes(self) -> int:
        gathering = self.gathering.size if self.gathering else 0
        return gathering + (self.committing.size if self.committing else 0)

    @property
    def newest_batch(self) -> OpenBatch | None:
        return self.gathering or self.committing

    @property
    def clean(self) -> bool:
        """Nothing here exists in memory alone."""
        return self.gathering is None and self.committing is None

    def append(self, peer: Peer, effect: Append) -> bool:
        """Put an accepted update into the gathering batch. True when it is the first in it."""
        first = self.gathering is None
        batch = self.gathering = self.gathering or OpenBatch()
        principal = peer.access.principal
        batch.entries.append(Entry(principal, effect.update))
        batch.senders.append(peer.id)
        batch.add_author(peer.access)
        batch.size += len(effect.update)
        batch.cuts |= effect.cuts
        for client in effect.claims:
            batch.claims[client] = principal
        batch.owe(peer, effect.acks)
        return first

    def seal(self) -> Batch:
        """The gathering batch becomes the committing one."""
        assert self.committing is None, "one flush of a document at a time: two would race for its next number"
        batch = self.gathering
        assert batch is not None
        self.committing, self.gathering = batch, None
        return Batch(
            self.id, batch.batch_id, batch.acl_version, tuple(batch.entries), dict(batch.claims), batch.cuts
        )

    def unseal(self) -> None:
        """The committing batch was not written: it gathers again, before what came meanwhile."""
        batch, later = self.committing, self.gathering
        assert batch is not None
        self.committing, self.gathering = None, batch
        batch.batch_id = os.urandom(16)
        if later is not None:
            batch.absorb(later)

    def mark_applied(self, seq: int) -> None:
        """Row ``seq`` is in the Doc."""
        if seq <= self.applied:
            return
        self.ahead.add(seq)
        while self.applied + 1 in self.ahead:
            self.applied += 1
            self.ahead.discard(self.applied)

    # -- telling the peers ---------------------------------------------------------------------------------

    def show(self, batch: OpenBatch) -> None:
        """The batch is committed: everybody sees it, as one frame. Its only author has it already, and is left
        out unless it wants its own back."""
        for peer, frames in batch.held.items():
            for frame in frames if peer.id in self.peers else ():
                peer.outbox.push(frame)
        author = self.peers.get(batch.senders[0]) if len(set(batch.senders)) == 1 else None
        left_out = author is not None and not author.codec.wants_echo
        update = Update(merged([entry.update for entry in batch.entries]))
        self._tell(update, except_=batch.senders[0] if left_out else None)

    def acknowledge(self, batch: OpenBatch, seq: int) -> None:
        """Tell who sent it. Not who has left: on a shared socket another peer may have its address now."""
        for peer, count in batch.acks.items():
            if peer.id in self.peers:
                peer.acknowledge(count, seq)
        for peer, frame in batch.promises.items():
            if peer.id in self.peers:
                peer.outbox.push(frame)

    def show_committed_elsewhere(self, update: bytes) -> None:
        self._tell(Update(update))

    def show_presence(self) -> None:
        """One frame with all that changed, to everybody: its author's y-websocket client needs to hear
        something at least every 30 seconds, and "not even your own awareness" is its reason to give up."""
        self.presence_scheduled = False
        payload = self.live.presence.changes()
        if payload is not None:
            self._tell(Awareness(payload))

    def _tell(self, message: Update | Awareness, except_: PeerId | None = None) -> None:
        body = encode_body(message)
        assert body is not None, "sync and awareness have a body in every dialect"
        self.peers.tell(body, except_)
