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


class Settler(Protocol):
    """Who acts on what became of a batch: the hub, and a recorder in tests."""

    def settle(self, document: OpenDocument, outcome: Outcome) -> None:
        """The document's committing batch has this outcome."""

    def show_early(self, document: OpenDocument) -> None:
        """The commit takes longer than it should."""

    def give_up(self, document: OpenDocument, error: StorageUnavailable) -> None:
        """The storage stayed away for the whole window: nothing of this document's batches was acked."""


class Committer:
    """The one flusher of this node. Belongs to no connection and no document."""

    def __init__(
        self,
        update_log: UpdateLog,
        clock: Clock,
        *,
        show_early_after_seconds: float,
        window_seconds: float,
    ) -> None:
        self._log = update_log
        self._clock = clock
        self._show_early_after = show_early_after_seconds
        self._window = window_seconds
        self._dirty: dict[str, OpenDocument] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running: list[OpenDocument] = []
        self._failing_since: float | None = None

    @property
    def failing(self) -> bool:
        """A flush has failed and is being tried again."""
        return self._failing_since is not None

    def dirty(self, document: OpenDocument) -> None:
        """The document has an open batch."""
        self._dirty[document.id] = document
        self._idle.clear()
        self._wake.set()

    async def idle(self) -> None:
        """Wait until nothing is open or in flight."""
        await self._idle.wait()

    async def run(self, settler: Settler) -> None:
        """Flush for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            # A document whose last batch is still being judged is left out: the hub reports it again.
            self._running = [d for d in self._dirty.values() if d.gathering and d.committing is None]
            self._dirty = {}
            if self._running:
                await self._flush(settler)
            if not self._dirty:
                self._idle.set()

    async def _flush(self, settler: Settler) -> None:
        batches = [document.seal() for document in self._running]
        appending = asyncio.ensure_future(self._append_with_retries(batches))
        try:
            while True:
                done, _ = await asyncio.wait([appending], timeout=self._show_early_after)
                if done:
                    break
                for document in [*self._running, *self._dirty.values()]:
                    settler.show_early(document)
        except BaseException:
            appending.cancel()
            raise
        running, self._running = self._running, []
        try:
            outcomes = appending.result()
        except StorageUnavailable as error:
            for document in running:
                settler.give_up(document, error)
            return
        for document, outcome in zip(running, outcomes, strict=True):
            try:
                settler.settle(document, outcome)
            except Exception:  # one document's trouble must not stop the flusher of all
                log.exception("a committed batch could not be shown", document_id=document.id)
                settler.give_up(document, StorageUnavailable())

    async def _append_with_retries(self, batches: Sequence[Batch]) -> list[Outcome]:
        """The same batch ids every time, so that a commit whose answer was lost is not written twice."""
        pause = FIRST_RETRY_SECONDS
        self._failing_since = None
        while True:
            try:
                outcomes = await self._log.append(batches)
            except StorageUnavailable as error:
                now = self._clock.monotonic()
                if self._failing_since is None:
                    self._failing_since = now
                    log.warning("the storage refuses a commit; trying again", error=error.detail)
                if now - self._failing_since >= self._window:
                    log.error("the storage stayed away: giving up on what was not acked", documents=len(batches))
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY_SECONDS)
            else:
                if self._failing_since is not None:
                    log.info("the storage commits again")
                    self._failing_since = None
                return outcomes
