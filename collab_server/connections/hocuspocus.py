"""A Hocuspocus provider's socket: many documents, each under its own address, each admitted by itself."""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from collab_server.connections.admission import admit, is_final
from collab_server.connections.socket import Socket
from collab_server.dialects.hocuspocus import (
    Content,
    Credential,
    Detach,
    Hocuspocus,
    Pong,
    Stateless,
    decode,
    document_of,
)
from collab_server.hub import Hub
from collab_server.live.messages import Awareness, Denied, Granted, Inbound, QueryAwareness, SyncStep1
from collab_server.open_document import OpenDocument
from collab_server.peers import Peer
from collab_server.services.access import AccessService
from collab_server.settings import Settings
from collab_server.supervision import BackgroundTasks
from schemas.errors import CollabError, RateLimited, Restarting, Unauthenticated

log = structlog.get_logger(__name__)
MAX_WAITING_MESSAGES = 1000  # per socket, before their documents' credentials are answered
IDLE_SECONDS = 60.0  # without any document; providers give up a silent socket after 30
DETACHED = "provider_initiated"


@dataclass(slots=True)
class _Entrance:
    """One address on the socket: waiting for its credential's answer, inside, or denied."""

    codec: Hocuspocus
    waiting: list[Inbound] | None = field(default_factory=list)
    peer: Peer | None = None
    document: OpenDocument | None = None


class HocuspocusConnection:
    """Frames of one address are processed strictly in order; addresses do not wait for each other."""

    def __init__(self, socket: Socket, hub: Hub, access: AccessService, settings: Settings) -> None:
        self._socket = socket
        self._hub = hub
        self._access = access
        self._settings = settings
        self._entrances: dict[str, _Entrance] = {}
        self._waiting_bytes = 0
        self._waiting_messages = 0
        self._tasks = BackgroundTasks()

    async def run(self) -> None:
        """Serve the socket to its end."""
        self._socket.expect_within(self._settings.auth_deadline_seconds)
        try:
            await self._socket.serve(self._take)
        finally:
            await self._tasks.cancel()
            for entrance in tuple(self._entrances.values()):
                if entrance.peer is not None and entrance.document is not None:
                    self._hub.leave(entrance.document, entrance.peer)
            await self._socket.finished()

    def _take(self, frame: bytes) -> Coroutine[Any, Any, None] | None:
        try:
            document = self._receive(frame)
        except CollabError as error:
            self._socket.close(error)
            return None
        return self._hub.room(document) if document and self._hub.congested(document) else None

    def _receive(self, frame: bytes) -> OpenDocument | None:
        """Returns the live document the frame went to, if any. Raises what must close the socket."""
        decoded = decode(frame)
        if isinstance(decoded, Pong):
            return None
        address, content = decoded
        entrance = self._entrances.get(address)
        if entrance is None:
            self._first(address, content)
        elif entrance.peer is not None and entrance.document is not None:
            self._inside(address, entrance, entrance.document, entrance.peer, content)
            return entrance.document
        elif isinstance(content, Detach):
            del self._entrances[address]
            self._watch_idleness()
        elif entrance.waiting is not None:
            self._wait(entrance, content, len(frame))
        elif isinstance(content, Credential):  # denied before: a fresh attempt
            self._ask(address, content)
        return None

    def _first(self, address: str, content: Content) -> None:
        match content:
            case Credential():
                self._ask(address, content)
            case SyncStep1():  # provider 2 without a token does not present one
                self._ask(address, Credential("", ""))
            case Detach() | Awareness() | QueryAwareness() | Stateless():
                pass
            case _:  # a client that missed its goodbye: on a new socket it says all of it again
                raise Restarting

    def _ask(self, address: str, credential: Credential) -> None:
        if address not in self._entrances and len(self._entrances) >= self._settings.max_documents_per_socket:
            raise RateLimited("Too many documents on one socket.")
        entrance = _Entrance(Hocuspocus(address, credential.version))
        self._entrances[address] = entrance
        self._tasks.start("admit", self._admit(address, entrance, credential))

    def _wait(self, entrance: _Entrance, content: Content, size: int) -> None:
        if isinstance(content, Credential | Detach | Stateless):
            return
        self._waiting_bytes += size
        self._waiting_messages += 1
        too_many = self._waiting_messages > MAX_WAITING_MESSAGES
        if too_many or self._waiting_bytes > self._settings.max_frame_bytes:
            raise RateLimited("Too much was sent before the credential was answered.")
        assert entrance.waiting is not None
        entrance.waiting.append(content)

    async def _admit(self, address: str, entrance: _Entrance, credential: Credential) -> None:
        """Every answer is only told while its attempt is still the one at this address."""
        try:
            granted = await admit(self._access, credential.token, document_of(address))
            if self._entrances.get(address) is not entrance:
                return
            peer = Peer(granted, entrance.codec, self._socket.outbox, self._ended)
            # Told before the document is there, as the published server does: its clients show it at once.
            peer.send(Granted(granted.role.may_write))
            entrance.peer = peer
            document = await self._hub.join(peer)
        except Exception as failure:
            entrance.peer = None
            if not isinstance(failure, CollabError):
                log.exception("an admission failed", document_id=document_of(address))
            if self._entrances.get(address) is entrance:
                self._refuse(entrance, failure if isinstance(failure, CollabError) else CollabError())
            return
        if self._entrances.get(address) is not entrance:  # detached meanwhile
            self._hub.leave(document, peer)
            return
        self._socket.expected()
        entrance.document = document
        waiting, entrance.waiting = entrance.waiting or [], None
        self._waiting_bytes = 0
        self._waiting_messages = 0
        for message in waiting:
            self._hub.receive(document, peer, message)

    def _refuse(self, entrance: _Entrance, error: CollabError) -> None:
        if not is_final(error):
            self._socket.close(error)  # every provider version comes back after a closed socket
            return
        entrance.waiting = None
        self._push(entrance.codec.encode(Denied(error)))
        self._watch_idleness()

    def _watch_idleness(self) -> None:
        """A socket that is in no document is only kept for a while: its client may try another token."""
        if not any(e.peer is not None or e.waiting is not None for e in self._entrances.values()):
            self._socket.expected()
            self._socket.expect_within(IDLE_SECONDS)

    def _inside(
        self, address: str, entrance: _Entrance, document: OpenDocument, peer: Peer, content: Content
    ) -> None:
        match content:
            case Credential():
                self._tasks.start("renew", self._renew(document, peer, content))
            case Detach():
                self._hub.leave(document, peer)
                del self._entrances[address]
                self._watch_idleness()
                self._push(entrance.codec.close_frame(DETACHED))
            case Stateless():
                pass
            case _:
                self._hub.receive(document, peer, content)

    async def _renew(self, document: OpenDocument, peer: Peer, credential: Credential) -> None:
        """The client presents a new token on a running connection."""
        try:
            granted = await admit(self._access, credential.token, peer.access.document_id)
            if granted.account_id != peer.access.account_id:
                raise Unauthenticated
        except CollabError as error:
            self._hub.authority.deny(document, peer, error)
            return
        self._hub.authority.renew(document, peer, granted)

    def _ended(self, peer: Peer, error: CollabError) -> None:
        """The hub ended the peer. What concerns one document's rights leaves the others alone."""
        if not is_final(error):
            self._socket.close(error)
            return
        for entrance in self._entrances.values():
            if entrance.peer is peer:
                entrance.peer = entrance.document = None
                self._refuse(entrance, error)
                self._push(entrance.codec.close_frame(error.slug))

    def _push(self, frame: bytes | None) -> None:
        if frame is not None:
            self._socket.outbox.push(frame)
