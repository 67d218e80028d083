"""Bounded bytes to one socket. ``push`` never waits: a peer that cannot keep up is closed, not waited for."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any

import structlog

from collab_server.fast_socket import FastSocket, server_frame
from schemas.errors import CollabError, SlowPeer

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
log = structlog.get_logger(__name__)


class Outbox:
    """What one socket still has to be sent.

    ASGI's ``send`` is a coroutine; on every server we know it finishes without waiting while the transport's
    buffer has room. So ``push`` steps it once by hand, which costs no task; only when it does wait is the rest
    handed to one, and what comes meanwhile is queued up to ``limit_bytes``.

    With ``fast`` (``transport/fast_websocket.py``) frames go to the transport itself, and ``direct`` is its
    ``write`` for as long as nothing is queued here and the transport takes more.
    """

    def __init__(
        self,
        send: Send,
        limit_bytes: int,
        close: Callable[[CollabError], None],
        fast: FastSocket | None = None,
    ) -> None:
        self._send = send
        self._fast = fast
        self._limit = limit_bytes
        self._close = close
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._waiting: asyncio.Task[None] | None = None
        self._gone = False
        self.silent = True
        """Nothing was pushed since the keep-alive looked last."""
        self.direct: Callable[[bytes], None] | None = None
        self.watchers: set[Callable[[], None]] = set()
        """Told when ``direct`` changes."""
        self._takes = False
        if fast is not None:
            fast["watch"](self._changed)

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    def push(self, frame: bytes) -> None:
        """Send ``frame`` after everything pushed before it, now if the transport takes it."""
        if self._gone:
            return
        self.silent = False
        if self.direct is not None:
            self.direct(server_frame(frame))
            return
        if self._waiting is not None:
            self._enqueue(frame)
            return
        if self._fast is not None:
            self._enqueue(frame)
            if not self._gone:
                self._waiting = asyncio.get_running_loop().create_task(self._finish_directly(self._fast))
            return
        step = self._send({"type": "websocket.send", "bytes": frame})
        assert isinstance(step, Coroutine)
        try:
            pending = step.send(None)
        except StopIteration:
            return
        except Exception:  # the socket is gone; its receive loop hears of it as well
            self._gone = True
            return
        self._waiting = asyncio.get_running_loop().create_task(self._finish(step, pending))

    def push_all(self, frames: list[bytes]) -> None:
        """The same for several, in one write where that can be: a Hocuspocus client counts one ack a message."""
        if self.direct is not None and not self._gone and frames:
            self.silent = False
            self.direct(b"".join(map(server_frame, frames)))
            return
        for frame in frames:
            self.push(frame)

    def _changed(self, takes: bool) -> None:
        self._takes = takes
        self._set_direct()

    def _set_direct(self) -> None:
        direct = None
        if self._fast is not None and self._takes and not self._gone and self._waiting is None:
            direct = self._fast["transport_write"]
        if direct is not self.direct:
            self.direct = direct
            for rearrange in self.watchers:
                rearrange()

    async def _finish_directly(self, fast: FastSocket) -> None:
        try:
            while self._queue:
                await fast["drained"]()
                frame = self._queue.popleft()
                self._queued_bytes -= len(frame)
                fast["transport_write"](server_frame(frame))
        except Exception as failure:
            log.debug("a socket went away while it was written to", error=type(failure).__name__)
            self.drop()
        finally:
            self._waiting = None
            self._set_direct()

    def _enqueue(self, frame: bytes) -> None:
        behind = self._queued_bytes > 0  # a single frame over the limit, a large document, is no slowness
        self._queued_bytes += len(frame)
        if behind and self._queued_bytes > self._limit:
            log.info("a slow peer is closed", queued_bytes=self._queued_bytes)
            self.drop()
            self._close(SlowPeer())
            return
        self._queue.append(frame)

    async def _finish(self, step: Coroutine[Any, Any, None], pending: Any) -> None:
        try:
            await _Rest(step, pending)
            while self._queue:
                frame = self._queue.popleft()
                self._queued_bytes -= len(frame)
                await self._send({"type": "websocket.send", "bytes": frame})
        except Exception as failure:
            log.debug("a socket went away while it was written to", error=type(failure).__name__)
            self.drop()
        finally:
            self._waiting = None

    def drop(self) -> None:
        """Forget what is queued; nothing is sent any more."""
        self._gone = True
        self._set_direct()
        self._queue.clear()
        self._queued_bytes = 0

    async def flushed(self) -> None:
        """Wait until what was pushed has been handed to the transport."""
        while self._waiting is not None:
            await asyncio.wait([self._waiting])


class _Rest:
    """Await the rest of a coroutine that was already stepped once and yielded ``pending``."""

    def __init__(self, step: Coroutine[Any, Any, None], pending: Any) -> None:
        self._step = step
        self._pending = pending

    def __await__(self) -> Generator[Any, Any, None]:
        pending = self._pending
        while True:
            try:
                answer = yield pending
            except BaseException as interruption:
                try:
                    pending = self._step.throw(interruption)
                except StopIteration:
                    return
            else:
                try:
                    pending = self._step.send(answer)
                except StopIteration:
                    return
