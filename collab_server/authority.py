"""Who may still do what in the live documents of this node (invariant I13).

Every answer about a peer carries the access version it was read under. An older answer never replaces a newer
one, and a batch is committed only if all its authors' answers are as new as the document's grants in storage:
the update log compares. So no order of these awaits can let a revoked principal's update through.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from collab_server.open_document import OpenDocument
from collab_server.peers import Peer
from collab_server.services.access import Access
from schemas.errors import CollabError, ReadOnly, StorageUnavailable

if TYPE_CHECKING:
    from collab_server.hub import Hub

log = structlog.get_logger(__name__)
Ask = Callable[[Access], Awaitable[Access]]


class Authority:
    """``ask`` gives the present access of somebody who was let in before, or raises why there is none."""

    def __init__(self, hub: "Hub", ask: Ask) -> None:
        self._hub = hub
        self.ask = ask

    async def recheck(self, document: OpenDocument) -> None:
        """Ask again what each peer may do here; those who may nothing are ended with the reason."""
        for peer in tuple(document.peers.values()):
            try:
                access = await self.ask(peer.access)
            except StorageUnavailable:
                continue  # nothing is known: its version stays old, so the next poll asks again
            except CollabError as error:
                self.deny(document, peer, error)
                continue
            self._apply(document, peer, access)

    def _apply(self, document: OpenDocument, peer: Peer, access: Access) -> None:
        document.acl_version = max(document.acl_version, access.acl_version)
        if peer.id not in document.peers or access.acl_version < peer.access.acl_version:
            return
        changed = access.role.may_write != peer.access.role.may_write
        peer.access = replace(access, expires_at=peer.access.expires_at)  # it may have been renewed meanwhile
        if changed:
            effects = document.live.set_may_write(peer.id, access.role.may_write)
            self._hub.carry_out(document, peer, effects)

    async def confirm_authors(self, document: OpenDocument) -> bool:
        """The grants changed before the commit: whether all authors of the committing batch may still write.

        Those who may not are ended. Raises ``StorageUnavailable`` when nothing can be known.
        """
        batch = document.committing
        if batch is None:
            return False
        confirmed = True
        for who, author in tuple(batch.authors.items()):
            peers = [p for p in tuple(document.peers.values()) if p.access.session_id == author.session_id]
            try:
                access = await self.ask(author)
                batch.authors[who] = access
                if not access.role.may_write:
                    raise ReadOnly
            except StorageUnavailable:
                raise
            except ReadOnly:
                confirmed = False
            except CollabError as error:
                confirmed = False
                for peer in peers:
                    self.deny(document, peer, error)
            for peer in peers:
                self._apply(document, peer, batch.authors[who])
        return confirmed

    def renew(self, document: OpenDocument, peer: Peer, access: Access) -> None:
        """The peer brought a new credential: it is told what it may do, as after the first."""
        if peer.id not in document.peers:
            return
        if access.acl_version < peer.access.acl_version:  # looked up before the newest change of its role
            access = replace(peer.access, session_id=access.session_id, expires_at=access.expires_at)
        peer.access = access
        peer.asked_for_credential = False
        effects = document.live.set_may_write(peer.id, access.role.may_write)
        self._hub.carry_out(document, peer, effects)

    def deny(self, document: OpenDocument, peer: Peer, error: CollabError) -> None:
        """End a peer that may not be here (any more)."""
        if peer.id in document.peers:
            self._hub.leave(document, peer)
            peer.end(error)

    def is_stale(self, document: OpenDocument, acl_version: int) -> bool:
        """Whether some peer was last looked at under older grants than ``acl_version``."""
        return any(peer.access.acl_version < acl_version for peer in document.peers.values())

    def access_changed(self, document_id: str) -> None:
        """A grant of this document changed, or the document was deleted."""
        document = self._hub.find(document_id)
        if document is not None:
            self._hub.tasks.start("recheck", self.recheck(document))

    def sessions_ended(self, session_ids: Collection[str], error: CollabError) -> None:
        for document in self._hub.documents:
            for peer in tuple(document.peers.values()):
                if peer.access.session_id in session_ids:
                    self.deny(document, peer, error)
