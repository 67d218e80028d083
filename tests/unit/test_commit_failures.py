"""The flusher when what it calls fails in a way nobody foresaw."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from collab_server.clock import ManualClock
from collab_server.commit import Committer
from collab_server.open_document import OpenBatch, OpenDocument
from collab_server.ports import UpdateLog
from collab_server.services.access import Access
from collab_server.supervision import supervised
from schemas.errors import StorageUnavailable
from schemas.ids import Principal
from schemas.records import Batch, Committed, Entry, Outcome
from schemas.roles import Role


class Panic(BaseException):
    """As PyO3's ``PanicException``: no ``Exception``."""


class Log:
    """Commits everything, or fails as it was told."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.appended: list[bytes] = []

    async def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop()
        self.appended += [batch.batch_id for batch in batches]
        return [Committed(1) for _ in batches]


class Settler:
    """Records what it hears; fails with ``failure`` on the document named ``bad``."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.settled: list[str] = []
        self.given_up: list[str] = []

    def settle(self, document: OpenDocument, outcome: Outcome) -> None:
        if self.failure is not None and document.id == "bad":
            raise self.failure
        self.settled.append(document.id)
        document.committing = None

    def still_waiting(self, document: OpenDocument) -> None: ...

    def give_up(self, document: OpenDocument, error: StorageUnavailable) -> None:
        self.given_up.append(document.id)
        document.committing = None


def dirty(name: str) -> OpenDocument:
    document = OpenDocument(name, None, 0, 1)  # type: ignore[arg-type]  # the flusher does not look inside
    document.gathering = OpenBatch(entries=[Entry("account:1", b"update")])
    document.gathering.add_author(Access("1", "One", "s", name, Role.EDITOR, Principal("account:1"), 1, None))
    return document


async def flush(log: Log, settler: Settler, *documents: OpenDocument) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    committer = Committer(cast(UpdateLog, log), clock, window_seconds=30)
    for document in documents:
        committer.dirty(document)
    running = asyncio.create_task(supervised("commit", lambda: committer.run(settler)))
    async with asyncio.timeout(5):
        while any(document.gathering or document.committing for document in documents):
            await asyncio.sleep(0.01)
    running.cancel()


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), Panic("the engine")])
async def test_trouble_with_one_batch_does_not_leave_the_others_unsettled(failure: BaseException) -> None:
    settler = Settler(failure)
    await flush(Log(), settler, dirty("first"), dirty("bad"), dirty("last"))
    assert settler.settled == ["first", "last"]
    assert settler.given_up == ["bad"]


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), Panic("the engine"), StorageUnavailable()])
async def test_a_batch_whose_append_failed_is_appended_again_under_its_id(failure: BaseException) -> None:
    log, settler, document = Log(failure), Settler(), dirty("document")
    batch = document.gathering
    assert batch is not None
    await flush(log, settler, document)
    assert log.appended == [batch.batch_id]
    assert settler.settled == ["document"]
