"""The short way to a socket, as an application sees it: ``scope["extensions"]["collab.fast"]``.

``transport/fast_websocket.py`` offers it on uvicorn. Elsewhere it is absent and everything goes through ASGI.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypedDict

EXTENSION = "collab.fast"
BINARY = 0x82  # FIN and opcode 2, none of the bits an extension may set
OnMessage = Callable[[bytes], object]
OnChange = Callable[[bool], object]


class FastSocket(TypedDict):
    """What the extension offers. Use it only after ``websocket.accept`` was sent.

    Use one way out, not both: raw frames overtake a ``send()`` that waits for room.
    """

    write: Callable[[bytes], bool]
    """Hand whole frames (``server_frame``) to the transport. False when it asked for a pause: nothing was
    written, wait for ``drained()``. Raises ``ClientDisconnected`` when the connection is over or closing."""

    drained: Callable[[], Coroutine[Any, Any, None]]
    """Wait until the transport takes frames again. Raises ``ClientDisconnected``."""

    transport_write: Callable[[bytes], None]
    """The transport's own ``write``, for a loop over many receivers that has no time to ask each how it is.
    Use it only while ``watch`` last said True."""

    watch: Callable[[OnChange], None]
    """Call this now and at every change with whether the transport takes frames: False when it asked for a
    pause and, for good, from the first moment the connection is closing. It may come from inside a write."""

    receive_with: Callable[[OnMessage], None]
    """From now on call this with every binary message, in the caller's context, instead of queueing it for
    ``receive()``; what is queued already comes first. Text messages and the disconnect still go there, so
    keep receiving. An exception closes the connection with 1011."""

    pause_reading: Callable[[], None]
    """Read no more from the socket; what was read already (at most 256 KiB) is still delivered."""

    resume_reading: Callable[[], None]


def server_frame(payload: bytes) -> bytes:
    """A whole binary message as a server sends it (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((BINARY, size)) + payload
    if size < 65_536:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload
