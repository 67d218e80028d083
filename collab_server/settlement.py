"""What becomes of a batch after its commit was tried. The committer calls; nobody is told anything before."""

from typing import TYPE_CHECKING

import structlog

from collab_server.live.messages import EMPTY_AWARENESS
from collab_server.open_document import OpenDocument
from schemas.errors import ClientIdOwned, Restarting, StorageUnavailable
from schemas.records import AccessChanged, ClaimConflict, Committed, Outcome, Refused

if TYPE_CHECKING:
    from collab_server.hub import Hub

log = structlog.get_logger(__name__)


class Settlement:
    """The committer's ``Settler``."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    def settle(self, document: OpenDocument, outcome: Outcome) -> None:
        """The committing batch of ``document`` has this outcome."""
        if document.closed:  # abandoned meanwhile: whoever opened it again has to hear of the row
            self._hub.saved(document)
            if (successor := self._hub.find(document.id)) is not None:
                self._hub.tasks.start("catch up", self._hub.catch_up(successor))
            return
        match outcome:
            case Committed(seq):
                self._committed(document, seq)
            case AccessChanged():
                self._hub.tasks.start("confirm authors", self._confirm_authors(document))
            case ClaimConflict(owners):
                self._refuse_claims(document, set(owners))
            case Refused(error):
                self._hub.abandon(document, error)

    def _committed(self, document: OpenDocument, seq: int) -> None:
        batch = self._hub.saved(document)
        assert batch is not None, "I1: only what was being committed can be committed"
        document.mark_applied(seq)
        document.show(batch)
        document.acknowledge(batch, seq)
        if document.applied < seq:
            self._hub.tasks.start("catch up", self._hub.catch_up(document))
        document.rows_since_checkpoint += 1
        self._hub.consider_compaction(document)

    async def _confirm_authors(self, document: OpenDocument) -> None:
        """Only who may still write is written (I13)."""
        batch = document.committing
        try:
            confirmed = await self._hub.authority.confirm_authors(document)
        except StorageUnavailable as error:
            self.give_up(document, error)
            return
        except Exception:  # unforeseen: a batch that nobody judges would block its document for ever
            log.exception("the authors of a batch cannot be confirmed", document_id=document.id)
            self.give_up(document, StorageUnavailable())
            return
        if document.closed or document.committing is not batch:
            return
        if confirmed:
            document.unseal()
            self._hub.committer.dirty(document)
        else:
            log.info("a revoked author's unsaved updates are dropped", document_id=document.id)
            self._hub.abandon(document, Restarting())  # the others come back to a document without them
        await self._hub.authority.recheck(document)

    def _refuse_claims(self, document: OpenDocument, clients: set[int]) -> None:
        """Another node's writer was first with these client ids; ours lose."""
        batch = document.committing
        assert batch is not None
        losers = {principal for client, principal in batch.claims.items() if client in clients}
        for peer in tuple(document.peers.values()):
            if peer.access.principal in losers:
                self._hub.authority.deny(document, peer, ClientIdOwned())
        self._hub.abandon(document, Restarting())

    def still_waiting(self, document: OpenDocument) -> None:
        """The storage is slow. Nothing is shown before its commit, to nobody: whoever saw what a crash then
        takes back would bring it along as somebody else's work. But a y-sweet client leaves after three
        silent seconds."""
        waiting = {peer for batch in (document.committing, document.gathering) if batch for peer in batch.promises}
        for peer in waiting:
            if peer.id in document.peers:
                peer.send(EMPTY_AWARENESS)

    def give_up(self, document: OpenDocument, error: StorageUnavailable) -> None:
        """Nothing in the document's batches was acked: its clients still have it and will bring it again."""
        self._hub.abandon(document, error)
