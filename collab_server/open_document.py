"""A live document with what stands around it: its peers, its open batch, and how far its log is applied."""

import os
from dataclasses import dataclass, field

from collab_server.dialects.sync_body import encode_body
from collab_server.live.document import LiveDocument
from collab_server.live.effects import Append, PeerId
from collab_server.live.messages import Awareness, Update
from collab_server.live.replica import merged
from collab_server.peers import Peer
from collab_server.services.access import Access
from schemas.records import Batch, Entry


@dataclass(slots=True)
class OpenBatch:
    """Accepted and applied, not yet committed: one row of the log to be."""

    batch_id: bytes = field(default_factory=lambda: os.urandom(16))
    entries: list[Entry] = field(default_factory=list)
    authors: dict[str, Access] = field(default_factory=dict)  # by principal
    senders: list[PeerId] = field(default_factory=list)  # of each entry
    claims: dict[int, str] = field(default_factory=dict)
    acks: dict[Peer, int] = field(default_factory=dict)
    held: list[tuple[Peer, bytes]] = field(default_factory=list)  # answers that show what is in here
    promises: list[tuple[Peer, bytes]] = field(default_factory=list)  # answers that call it saved
    bytes: int = 0
    cuts: bool = False


class OpenDocument:
    """At most one batch gathers (``gathering``) while at most one is being committed (``committing``)."""

    def __init__(self, document_id: str, live: LiveDocument, applied: int, acl_version: int) -> None:
        self.id = document_id
        self.live = live
        self.peers: dict[PeerId, Peer] = {}
        self.gathering: OpenBatch | None = None
        self.committing: OpenBatch | None = None
        self.acl_version = acl_version
        self.applied = applied  # every row up to here is in the Doc
        self.ahead: set[int] = set()  # rows beyond the first hole that are in the Doc as well
        self.rows_since_checkpoint = 0
        self.presence_scheduled = False
        self.catching_up = False
        self.closed = False
        self.idle_since = 0.0

    @property
    def unsaved_bytes(self) -> int:
        gathering = self.gathering.bytes if self.gathering else 0
        return gathering + (self.committing.bytes if self.committing else 0)

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
        batch.authors[principal] = peer.access
        batch.senders.append(peer.id)
        batch.bytes += len(effect.update)
        batch.cuts |= effect.cuts
        for client in effect.claims:
            batch.claims[client] = principal
        if effect.acks:
            batch.acks[peer] = batch.acks.get(peer, 0) + effect.acks
        return first

    def seal(self) -> Batch:
        """The gathering batch becomes the committing one."""
        assert self.committing is None, "one flush of a document at a time: two would race for its next number"
        batch = self.gathering
        assert batch is not None
        self.committing, self.gathering = batch, None
        return Batch(
            self.id, batch.batch_id, self.acl_version, tuple(batch.entries), dict(batch.claims), batch.cuts
        )

    def unseal(self) -> None:
        """The committing batch was not written: it gathers again, before what came meanwhile."""
        batch, later = self.committing, self.gathering
        assert batch is not None
        self.committing, self.gathering = None, batch
        batch.batch_id = os.urandom(16)
        if later is None:
            return
        batch.entries += later.entries
        batch.authors |= later.authors
        batch.senders += later.senders
        batch.claims |= later.claims
        batch.held += later.held
        batch.promises += later.promises
        batch.bytes += later.bytes
        batch.cuts |= later.cuts
        for peer, count in later.acks.items():
            batch.acks[peer] = batch.acks.get(peer, 0) + count

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
        """The batch is committed: everybody sees it, as one frame. Its only author has it already."""
        for peer, frame in batch.held:
            peer.outbox.push(frame)
        body = encode_body(Update(merged([entry.update for entry in batch.entries])))
        assert body is not None
        author = batch.senders[0] if len(set(batch.senders)) == 1 else None
        self._broadcast(body, tuple(self.peers.values()), except_=author)

    def show_committed_elsewhere(self, update: bytes) -> None:
        body = encode_body(Update(update))
        assert body is not None
        self._broadcast(body, tuple(self.peers.values()))

    def show_presence(self) -> None:
        """One frame with all that changed, to everybody: its author's y-websocket client needs to hear
        something at least every 30 seconds, and "not even your own awareness" is its reason to give up."""
        self.presence_scheduled = False
        payload = self.live.presence.changes()
        if payload is not None:
            body = encode_body(Awareness(payload))
            assert body is not None
            self._broadcast(body, tuple(self.peers.values()))

    @staticmethod
    def _broadcast(body: bytes, audience: tuple[Peer, ...], except_: PeerId | None = None) -> None:
        frames: dict[bytes, bytes] = {}
        for peer in audience:
            if peer.id == except_:
                continue
            prefix = peer.codec.prefix
            frame = frames.get(prefix)
            if frame is None:
                frame = frames[prefix] = prefix + body
            peer.outbox.push(frame)
