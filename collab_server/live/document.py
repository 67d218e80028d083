"""A live document: a document held in memory by this node, as a value machine.

``receive`` takes one message of one peer and returns effects in the order they must happen. No sockets, no
clock, no database, nothing awaited: the hub is the only one who carries effects out.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from collab_server.live.bytes_replica import BytesReplica
from collab_server.live.effects import Ack, Append, Close, Effect, PeerId, Poisoned, PresenceChanged, Reply
from collab_server.live.guard import (
    Footprint,
    fresh_clients,
    inspect_own_state,
    inspect_state_vector,
    inspect_update,
    missing,
    overlaps,
)
from collab_server.live.messages import (
    EMPTY_AWARENESS,
    Awareness,
    Granted,
    Inbound,
    NotSaved,
    QueryAwareness,
    SaveEcho,
    SaveQuery,
    SyncStep1,
    SyncStep2,
    Update,
)
from collab_server.live.presence import Presence
from collab_server.live.replica import EngineFailure, Replica, without_known
from collab_server.live.structure import Structure
from schemas.errors import (
    ClientIdOwned,
    CollabError,
    DocumentReset,
    Malformed,
    RateLimited,
    ReadOnly,
    Restarting,
    TooLarge,
)

MAX_UNANSWERED = 100  # of our sync steps 1 by one peer: a client answers each at once
MAX_FRUITLESS_ANSWERS = 3  # answers to our sync step 1 that still lack something: then the replica is stubborn


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Bytes of one update, of the first sync step 2 of an offline client, and of the whole document."""

    update_bytes: int = 1024 * 1024
    sync_bytes: int = 8 * 1024 * 1024
    document_bytes: int = 50 * 1024 * 1024


@dataclass(slots=True)
class PeerState:
    """What the core remembers of one peer."""

    id: PeerId
    principal: str
    may_write: bool
    wants_acks: bool
    asked: deque[bool] = field(default_factory=deque)
    """Our unanswered sync steps 1, oldest first: whether the answer is itself owed an ack (it is when the
    client's own handshake caused it, and not when we asked because of a gap)."""
    owed: int = 0
    """Updates with a gap that were neither applied nor acked: the answer to our question holds them."""
    fruitless: int = 0
    refused: bool = False
    """Something it sent was refused: nothing may be called saved to it any more."""
    save_query: bytes | None = None
    """The newest version it asked about while an answer of its own was outstanding."""


class LiveDocument:
    """The rules of one document. Every method is synchronous and O(message)."""

    def __init__(
        self,
        replica: Replica | BytesReplica,
        owners: Mapping[int, str],
        *,
        presence: Presence | None = None,
        limits: DocumentLimits | None = None,
        stored_bytes: int = 0,
        strict_client_ids: bool = True,
    ) -> None:
        self._replica = replica
        self._structure = self._unknown_structure()
        self._owners = dict(owners)
        self._presence = presence or Presence()
        self._limits = limits or DocumentLimits()
        self._bytes = stored_bytes
        self._strict = strict_client_ids
        self._peers: dict[PeerId, PeerState] = {}

    @property
    def replica(self) -> Replica | BytesReplica:
        return self._replica

    @property
    def presence(self) -> Presence:
        return self._presence

    # -- peers ---------------------------------------------------------------------------------------------

    def join(self, peer: PeerId, principal: str, *, may_write: bool, wants_acks: bool) -> list[Effect]:
        """A peer enters: it is told who else is here. It starts the sync itself."""
        self._peers[peer] = PeerState(peer, principal, may_write, wants_acks)
        everyone = self._presence.everything()
        return [] if everyone is None else [Reply(peer, Awareness(everyone))]

    def leave(self, peer: PeerId) -> list[Effect]:
        self._peers.pop(peer, None)
        return [PresenceChanged()] if self._presence.leave(peer) else []

    def set_may_write(self, peer: PeerId, may_write: bool) -> list[Effect]:
        """The role changed while the peer is here: from the next message on it counts."""
        self._peers[peer].may_write = may_write
        return [Reply(peer, Granted(may_write))]

    # -- messages ------------------------------------------------------------------------------------------

    def receive(self, sender: PeerId, message: Inbound) -> list[Effect]:
        """One message of ``sender``, who has joined. Never raises for what a client sent."""
        peer = self._peers[sender]
        try:
            match message:
                case Update(update):
                    return self._update(peer, update)
                case SyncStep1(state_vector):
                    return self._answer(peer, state_vector)
                case SyncStep2(update):
                    return self._step2(peer, update)
                case Awareness(payload):
                    changed = self._presence.receive(sender, peer.principal, payload)
                    return [PresenceChanged()] if changed else []
                case SaveQuery(version):
                    peer.save_query = version
                    return self._echo_save(peer)
                case QueryAwareness():
                    everyone = self._presence.everything()
                    return [] if everyone is None else [Reply(sender, Awareness(everyone))]
        except CollabError as error:
            return [Close(sender, error)]
        except EngineFailure as failure:  # while it encoded: the sender did nothing wrong
            return [Poisoned(sender, str(failure)), Close(sender, Restarting())]

    def _answer(self, peer: PeerState, state_vector: bytes) -> list[Effect]:
        """Our own step 1, so that the client sends what we lack, then what it lacks."""
        inspect_state_vector(state_vector)
        diff = self._replica.state_as_update(state_vector)
        effects: list[Effect] = []
        # A viewer is asked only where its dialect needs the answer for a truthful "saved".
        if peer.may_write or peer.wants_acks:
            if len(peer.asked) >= MAX_UNANSWERED:
                raise RateLimited(f"{MAX_UNANSWERED} sync questions are unanswered.")
            peer.asked.append(True)
            effects.append(Reply(peer.id, SyncStep1(self._replica.state_vector()), shows_content=True))
        effects.append(Reply(peer.id, SyncStep2(diff), shows_content=True))
        return effects

    def _step2(self, peer: PeerState, update: bytes) -> list[Effect]:
        """An answer to our question pays back the acks of the updates whose gap it fills."""
        if len(update) > self._limits.sync_bytes:
            raise TooLarge(f"A sync answer is at most {self._limits.sync_bytes} bytes.")
        acks = 1 if not peer.asked or peer.asked.popleft() else 0
        footprint = inspect_update(update)
        if peer.may_write and missing(footprint, self._replica.clocks):
            peer.fruitless += 1
            if peer.fruitless >= MAX_FRUITLESS_ANSWERS:
                raise DocumentReset
            return self._ask_again(peer, acks)
        acks, peer.owed, peer.fruitless = acks + peer.owed, 0, 0
        return [*self._merge(peer, update, footprint, acks), *self._echo_save(peer, asked_now=False)]

    def _echo_save(self, peer: PeerState, *, asked_now: bool = True) -> list[Effect]:
        """True only when everything is here: also what the client still has to send as an answer to us."""
        if peer.save_query is None:
            return []
        if peer.asked or peer.owed or peer.refused:  # it only has to hear that we are alive
            return [Reply(peer.id, EMPTY_AWARENESS)] if asked_now else []
        version, peer.save_query = peer.save_query, None
        return [Reply(peer.id, SaveEcho(version), promises=True)]

    def _update(self, peer: PeerState, update: bytes) -> list[Effect]:
        if len(update) > self._limits.update_bytes:
            raise TooLarge(f"An update is at most {self._limits.update_bytes} bytes.")
        footprint = inspect_update(update)
        if peer.may_write and missing(footprint, self._replica.clocks):
            return self._ask_again(peer, 1)
        return self._merge(peer, update, footprint, 1)

    def _ask_again(self, peer: PeerState, acks: int) -> list[Effect]:
        """Something the update builds on is unknown: it is not applied, the client sends it again in whole."""
        peer.owed += acks
        if peer.asked:
            return []  # already asked: that answer will hold it
        peer.asked.append(False)
        return [Reply(peer.id, SyncStep1(self._replica.state_vector()))]

    def _merge(self, peer: PeerState, update: bytes, footprint: Footprint, acks: int) -> list[Effect]:
        if not peer.may_write:
            if self._replica.contains(footprint):
                return [Ack(peer.id, acks)]
            peer.refused = True
            return [Reply(peer.id, NotSaved(ReadOnly()))]
        fresh = fresh_clients(footprint, self._replica.clocks)
        if not fresh and not footprint.deletes:
            return [Ack(peer.id, acks)]
        if overlaps(footprint, self._replica.clocks):
            update = without_known(update, self._replica.state_vector())
            footprint = inspect_own_state(update)
        claims = self._claims(peer, fresh)
        if self._bytes + len(update) > self._limits.document_bytes:
            raise TooLarge(f"The document would exceed {self._limits.document_bytes} bytes.")
        cuts = self._admit(footprint)
        try:
            changed = self._replica.apply(update, footprint)
        except EngineFailure as failure:
            return [Poisoned(peer.id, str(failure)), Close(peer.id, Malformed())]
        if not changed:
            return [Ack(peer.id, acks)]
        self._bytes += len(update)
        for client in claims:
            self._owners[client] = peer.principal
        return [Append(peer.id, update, claims, acks, cuts)]

    def _unknown_structure(self) -> Structure:
        """It reads the whole state when it is first asked."""
        return Structure(lambda: self._replica.state_as_update())

    def _admit(self, footprint: Footprint) -> bool:
        """What only the structure of the whole document can tell, right before the update is applied. Returns
        whether it cuts a character in two; from then on the document is kept as bytes. Raises ``Malformed``."""
        try:
            cuts = self._structure.admit(footprint, self._replica.clocks)
        except Malformed:
            self._structure = self._unknown_structure()  # the old one knows half of the update
            raise
        if cuts and isinstance(self._replica, Replica):
            self._replica = BytesReplica([self._replica.state_as_update()])
        return cuts

    def _claims(self, peer: PeerState, fresh: tuple[int, ...]) -> tuple[int, ...]:
        """The client ids this update uses first. A struct under somebody else's id would be taken for theirs
        and silently push out what they write next, so it is refused before the engine sees it."""
        if not self._strict:
            return ()
        new = []
        for client in fresh:
            owner = self._owners.get(client)
            if owner is None:
                new.append(client)
            elif owner != peer.principal:
                raise ClientIdOwned
        return tuple(new)

    # -- news from elsewhere -------------------------------------------------------------------------------

    def merge_committed(self, update: bytes, principal: str) -> bool:
        """Apply what ``principal`` had committed through another node. Returns whether it was news.

        It passed that node's guard, and no limit counts any more. Raises ``EngineFailure``, or ``Malformed``
        for a row that no guard can have let through.
        """
        footprint = inspect_own_state(update)
        for client in fresh_clients(footprint, self._replica.clocks):
            self._owners.setdefault(client, principal)
        self._admit(footprint)
        changed = self._replica.apply(update, footprint)
        if changed:
            self._bytes += len(update)
        return changed
