"""uvicorn's WebSocket protocol with a short way in and a short way out, for an application that wants them.

The stock way costs a message 20 to 40 microseconds in, through a queue, a task and two changes of what the
loop polls, and 5 to 9 microseconds out for each receiver, whose frame is encoded anew. Here
``scope["extensions"]["collab.fast"]`` offers a write of prebuilt frames (a server's frames carry no mask, so one
encoded frame serves every receiver) and a callback for each complete message. Handshake, pings, closing,
fragments, compression and limits stay with the stock parser: it gets every frame that is not a whole, unmodified
binary message, and it is always at a frame's boundary when one is taken past it.

This leans on what uvicorn does not document: ``supported()`` says whether it is the version this was written
for, and ``tests/contract/test_fast_websocket.py`` holds it to the stock class.
"""

import contextvars
from typing import Any, cast

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from collab_server.fast_socket import BINARY, EXTENSION, FastSocket, OnChange, OnMessage

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this machine
    from websockets.utils import apply_mask

UVICORN = "0.54."
MASKED = 0x80


def supported() -> bool:
    """Whether this uvicorn is one the class was tested with; else serve with the stock class."""
    return uvicorn.__version__.startswith(UVICORN)


class FastWebSocketProtocol(WebSocketsSansIOProtocol):
    """For ``uvicorn.Config(ws=FastWebSocketProtocol)``."""

    _aligned = False
    """The stock parser stands between two frames, but for the ``_owed`` bytes of the one it is in."""
    _owed = 0
    _head = b""
    """The beginning of a frame whose header is not complete; nobody has seen it."""
    _on_message: OnMessage | None = None
    _context: contextvars.Context
    _on_change: OnChange | None = None
    _told = False

    # -- out -----------------------------------------------------------------------------------------------

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:  # the application's task exists but has not begun
            extension = FastSocket(
                write=self._write,
                drained=self._drained,
                transport_write=self.transport.write,
                watch=self._watch,
                receive_with=self._receive_with,
                pause_reading=self._pause_reading,
                resume_reading=self._resume_reading,
            )
            cast(dict[str, Any], self.scope["extensions"])[EXTENSION] = extension

    def _write(self, frames: bytes) -> bool:
        if self.close_sent or self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        if not self.handshake_complete:
            raise RuntimeError("frames before websocket.accept")
        if not self.writable.is_set():
            return False
        self.transport.write(frames)
        return True

    async def _drained(self) -> None:
        await self.writable.wait()
        if self.close_sent or self.disconnected or self.transport.is_closing():
            raise ClientDisconnected

    def _takes_frames(self) -> bool:
        over = self.close_sent or self.disconnected or self.transport.is_closing()
        return not over and self.handshake_complete and self.writable.is_set()

    def _watch(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._told = self._takes_frames()
        on_change(self._told)

    def _tell(self) -> None:
        if self._on_change is not None and self._told != self._takes_frames():
            self._told = not self._told
            self._on_change(self._told)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._tell()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._tell()

    async def send(self, message: Any) -> None:
        await super().send(message)
        self._tell()

    def handle_close(self, event: Any) -> None:
        super().handle_close(event)
        self._tell()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._tell()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._tell()

    def shutdown(self) -> None:
        super().shutdown()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell()

    # -- in ------------------------------------------------------------------------------------------------

    def _receive_with(self, on_message: OnMessage) -> None:
        self._context = contextvars.copy_context()
        self._on_message = on_message
        waiting = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        messages: list[bytes] = []
        for event in waiting:
            message = event.get("bytes") if event["type"] == "websocket.receive" else None
            if message is None:
                self.queue.put_nowait(event)
            else:
                messages.append(message)
        self._resume_reading()
        for message in messages:  # the callback may pause again
            self._deliver(message)

    def _pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True  # so the stock class resumes when it has to read a closing handshake
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()

    def _open(self) -> bool:
        """Neither before the handshake's answer nor after a close frame of either side."""
        return self.conn.state is State.OPEN

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            super().data_received(data)
            # uvicorn hands the request over in one piece and drops what a client sent behind it
            self._aligned = data.endswith(b"\r\n\r\n")
            return
        if self._aligned and self._owed and self._open():
            rest, data = data[: self._owed], data[self._owed :]
            self._owed -= len(rest)
            super().data_received(rest)
        if self._head:
            data, self._head = self._head + data, b""
        if self._aligned and self._open():
            data = self._take_frames(data)
        if data:
            self._aligned = False  # before the handshake's end or after a close: no short way any more
            super().data_received(data)

    def _take_frames(self, data: bytes) -> bytes:
        """Deal with all frames in ``data``; returns what the stock parser has to judge, with all that follows."""
        conn, at, size = self.conn, 0, len(data)
        while size - at >= 2:
            first, length = data[at], data[at + 1] - MASKED
            start = at + 6
            if length < 0:
                return data[at:]  # without a mask: an error
            if length >= 126:
                start += 2 if length == 126 else 8
                if start - 4 > size:
                    break
                length = int.from_bytes(data[at + 2 : start - 4], "big")
            if conn.max_message_size is not None and length > conn.max_message_size:
                return data[at:]
            if start > size:
                break
            end = start + length
            if end > size:
                self._owed = end - size
                super().data_received(data[at:])
                return b""
            if first == BINARY and self._on_message is not None and conn.current_size is None:
                if not self.close_sent:
                    self._deliver(apply_mask(data[start:end], data[start - 4 : start]))
            else:
                super().data_received(data[at:end])
            at = end
            if not self._open():
                return data[at:]
        self._head = data[at:]
        return b""

    def send_receive_event_to_app(self) -> None:
        """A message that the stock parser put together."""
        if self._on_message is None or self.curr_msg_data_type == "text":
            super().send_receive_event_to_app()
            return
        message, self.frames = b"".join(self.frames), []
        if not self.close_sent:
            self._deliver(message)

    def _deliver(self, message: bytes) -> None:
        assert self._on_message is not None
        try:
            self._context.run(self._on_message, message)
        except Exception:
            self.logger.exception("Exception in the receiver of a WebSocket")
            if self._open():
                self.conn.fail(1011)
                self.handle_parser_exception()
