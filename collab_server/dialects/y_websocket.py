"""The y-websocket dialect: one document per socket, the room in the path, one message per frame.

    frame = varuint type, …   0 sync, 1 awareness, 2 auth (server: 0 denied, varstring reason), 3 query awareness

It knows no acks. ``?caps=ack`` asks for frames of type 101, ``saved``: varuint count, varuint seq; clients
that did not ask would print a warning for an unknown type.
"""

from collab_server.dialects.sync_body import (
    AUTH,
    AWARENESS,
    QUERY_AWARENESS,
    SYNC,
    decode_awareness,
    decode_query,
    decode_sync,
    encode_body,
)
from collab_server.live.lib0 import read_var_uint, write_var_string, write_var_uint
from collab_server.live.messages import Denied, Inbound, NotSaved, Outbound
from schemas.errors import Malformed

SAVED = 101


class YWebSocket:
    """The codec of one socket. ``acks``: the client asked for ``saved`` frames. ``echo``: it takes its own update
    coming back for the sign that it is saved, as @y/websocket 4 does."""

    prefix = b""

    def __init__(self, *, acks: bool = False, echo: bool = False) -> None:
        self.wants_acks = acks
        self.wants_echo = echo

    def decode(self, frame: bytes) -> Inbound:
        """Raises ``Malformed``."""
        kind, at = read_var_uint(frame, 0)
        if kind == SYNC:
            return decode_sync(frame, at)
        if kind == AWARENESS:
            return decode_awareness(frame, at)
        if kind == QUERY_AWARENESS:
            return decode_query(frame, at)
        raise Malformed(f"Clients send no message of type {kind}.")

    def encode(self, message: Outbound) -> bytes | None:
        """The frame, or None for what this dialect cannot say."""
        body = encode_body(message)
        if body is not None:
            return body
        match message:
            case NotSaved(error) | Denied(error):  # the client shows it as a warning
                return bytes((AUTH, 0)) + write_var_string(error.slug)
            case _:
                return None

    def saved(self, count: int, seq: int) -> list[bytes]:
        """The frames that say: ``count`` more of your messages are durable, at ``seq`` of the document."""
        if not self.wants_acks:
            return []
        return [bytes((SAVED,)) + write_var_uint(count) + write_var_uint(seq)]
