"""One accepted WebSocket: its outbox, and how it ends. Knows no dialect."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

import structlog

from collab_server.fast_socket import FastSocket
from collab_server.outbox import Outbox, Send
from collab_server.supervision import BackgroundTasks
from schemas.errors import CollabError, IdleTimeout, Malformed

log = structlog.get_logger(__name__)
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Take = Callable[[bytes], Coroutine[Any, Any, None] | None]
"""Takes a frame; returns what to wait for before the next is read, if anything."""
CloseCode = Callable[[CollabError], tuple[int, str]]
CLOSE_PATIENCE_SECONDS = 5.0  # for a peer that does not read: then the transport is dropped without goodbye


class OpenSockets:
    """All sockets of this node, for its end."""

    def __init__(self) -> None:
        self._sockets: set[Socket] = set()
        self._one_less = asyncio.Event()

    def add(self, socket: "Socket") -> None:
        self._sockets.add(socket)

    def discard(self, socket: "Socket") -> None:
        self._sockets.discard(socket)
        self._one_less.set()

    async def close_all(self, error: CollabError, patience_seconds: float) -> None:
        """Say goodbye to those that have not been told yet, and wait until all are gone or patience ends."""
        for socket in tuple(self._sockets):
            socket.close(error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                while self._sockets:
                    self._one_less.clear()
                    await self._one_less.wait()


class Socket:
    """Reads frames, writes through the outbox, and closes once."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        outbox_bytes: int,
        close_code: CloseCode,
        fast: FastSocket | None = None,
    ) -> None:
        self._receive = receive
        self._send = send
        self._close_code = close_code
        self._fast = fast
        self._tasks = BackgroundTasks()
        self._closing: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._task = asyncio.current_task()
        self.outbox = Outbox(send, outbox_bytes, self.close, fast)

    async def next_frame(self) -> bytes | None:
        """The next binary frame; None when the connection is over. A text frame closes it with 4400."""
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return None
            if self._closing is not None:
                continue
            frame = event.get("bytes")
            if frame is not None:
                return bytes(frame)
            self.close(Malformed("Frames are binary here."))

    async def serve(self, take: Take) -> None:
        """Have ``take`` called with each binary frame, in order, until the connection is over. While a room
        that it returned is not done, nothing more is read."""
        if self._fast is not None:
            self._take_directly(self._fast, take)  # then ``next_frame`` only tells of the end
        frame = await self.next_frame()
        while frame is not None:
            room = take(frame)
            frame = await (self.next_frame() if room is None else self._next_frame_after(room))

    def _take_directly(self, fast: FastSocket, take: Take) -> None:
        def on_message(frame: bytes) -> None:
            if self._closing is None and (room := take(frame)) is not None:
                fast["pause_reading"]()
                self._tasks.start("room", resume(room))

        async def resume(room: Coroutine[Any, Any, None]) -> None:
            await room
            fast["resume_reading"]()

        fast["receive_with"](on_message)

    async def _next_frame_after(self, room: Coroutine[Any, Any, None]) -> bytes | None:
        waiting = asyncio.ensure_future(room)
        reading = asyncio.ensure_future(self.next_frame())
        try:
            await asyncio.wait([waiting, reading], return_when=asyncio.FIRST_COMPLETED)
            if not (reading.done() and reading.result() is None):  # the end counts at once
                await waiting
            return await reading
        finally:
            waiting.cancel()
            reading.cancel()

    def expect_within(self, seconds: float) -> None:
        """Close with a timeout unless ``expected`` is called in time. What arrives does not extend it."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self.close, IdleTimeout())

    def expected(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def close(self, error: CollabError) -> None:
        """Say goodbye with the error's close code, after what was pushed before. Returns at once."""
        if self._closing is None:
            self.expected()
            self._closing = asyncio.get_running_loop().create_task(self._say_goodbye(error))

    async def _say_goodbye(self, error: CollabError) -> None:
        code, reason = self._close_code(error)
        log.info("closing a socket", code=code, reason=reason)
        try:
            async with asyncio.timeout(CLOSE_PATIENCE_SECONDS):
                await self.outbox.flushed()
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except TimeoutError:
            if self._task is not None:
                self._task.cancel()
        except Exception as failure:  # it went away first: its receive loop is told so
            log.debug("a socket was gone before its goodbye", error=type(failure).__name__)
        finally:
            self.outbox.drop()

    async def finished(self) -> None:
        """Call when the receive loop has ended: nothing of this socket stays behind."""
        await self._tasks.cancel()
        self.expected()
        self.outbox.drop()
        if self._closing is not None:
            await asyncio.wait([self._closing])
