"""Group commit: the open batches of all documents become durable in one transaction.

Self-clocking: whenever no flush runs and something is open, flush now; what arrives meanwhile is the next
batch. So a quiet server commits each keystroke at once, and under load batches grow and each gets cheaper.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from collab_server.open_document import OpenDocument
from collab_server.ports import Clock, UpdateLog
from schemas.errors import StorageUnavailable
from schemas.records import Batch, Outcome

log = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 1.0
SLOW_SECONDS = 1.0


class Settler(Protocol):
    """Who acts on what became of a batch: the hub, and a recorder in tests."""

    def settle(self, document: OpenDocument, outcome: Outcome) -> None:
        """The document's committing batch has this outcome."""

    def still_waiting(self, document: OpenDocument) -> None:
        """The commit has taken another second."""

    def give_up(self, document: OpenDocument, error: StorageUnavailable) -> None:
        """The storage stayed away for the whole window: nothing of this document's batches was acked."""


class Committer:
    """The one flusher of this node. Belongs to no connection and no document."""

    def __init__(
        self,
        update_log: UpdateLog,
        clock: Clock,
        *,
        window_seconds: float,
    ) -> None:
        self._log = update_log
        self._clock = clock
        self._window = window_seconds
        self._dirty: dict[OpenDocument, None] = {}  # by identity: a closed one may have a successor
        self._wake = asyncio.Event()
        self._sealed: list[tuple[OpenDocument, Batch]] = []
        self._slow: asyncio.TimerHandle | None = None
        self._failing_since: float | None = None

    def dirty(self, document: OpenDocument) -> None:
        """The document has an open batch."""
        self._dirty[document] = None
        self._wake.set()

    async def run(self, settler: Settler) -> None:
        """Flush for ever. When a failure ended an earlier run half-way, its batches are flushed first: the
        same ones with the same ids, so that none is lost and none is written twice."""
        while True:
            if not self._sealed:
                await self._wake.wait()
                self._wake.clear()
                # A document whose last batch is still being judged is left out: the hub reports it again.
                ready = [d for d in self._dirty if d.gathering and d.committing is None]
                self._dirty = {}
                self._sealed = [(document, document.seal()) for document in ready]
            if self._sealed:
                await self._flush(settler)

    async def _flush(self, settler: Settler) -> None:
        batches = [batch for _, batch in self._sealed]
        self._slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._still_waiting, settler)
        try:
            outcomes: list[Outcome | StorageUnavailable] = [*await self._append_with_retries(batches)]
        except StorageUnavailable as error:
            outcomes = [error] * len(batches)
        finally:
            self._slow.cancel()
        sealed, self._sealed = self._sealed, []
        for (document, _), outcome in zip(sealed, outcomes, strict=True):
            try:
                if isinstance(outcome, StorageUnavailable):
                    settler.give_up(document, outcome)
                else:
                    settler.settle(document, outcome)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # one document's trouble, also a panic, must not leave the others unsettled
                log.exception("a batch could not be settled", document_id=document.id)
                settler.give_up(document, StorageUnavailable())

    def _still_waiting(self, settler: Settler) -> None:
        for document in [*(document for document, _ in self._sealed), *self._dirty]:
            settler.still_waiting(document)
        self._slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._still_waiting, settler)

    async def _append_with_retries(self, batches: Sequence[Batch]) -> list[Outcome]:
        """The same batch ids every time, so that a commit whose answer was lost is not written twice."""
        pause = FIRST_RETRY_SECONDS
        self._failing_since = None
        while True:
            try:
                outcomes = await self._log.append(batches)
            except Exception as failure:  # also what the log did not foresee: nothing was acked, so try again
                now = self._clock.monotonic()
                if self._failing_since is None:
                    self._failing_since = now
                    log.warning("a commit failed; trying again", error=str(failure), kind=type(failure).__name__)
                if now - self._failing_since >= self._window:
                    log.error("commits keep failing: giving up on what was not acked", documents=len(batches))
                    self._failing_since = None
                    raise failure if isinstance(failure, StorageUnavailable) else StorageUnavailable from failure
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY_SECONDS)
            else:
                if self._failing_since is not None:
                    log.info("the storage commits again")
                    self._failing_since = None
                return outcomes
