"""The y-sweet dialect: y-websocket and one more message, ``102 varbytes``.

The client sends its local version as 102 after each change, after opening and every two seconds, and shows
"saved" when the same bytes come back. It sends the one after opening before it has sent what it typed offline,
so the echo waits for its sync step 2 as well. Silence of three seconds after a 102 makes it reconnect.
"""

from collab_server.dialects.y_websocket import YWebSocket
from collab_server.live.lib0 import read_var_bytes, read_var_uint, write_var_bytes
from collab_server.live.messages import Inbound, Outbound, SaveEcho, SaveQuery
from schemas.errors import Malformed

SAVE = 102
MAX_VERSION_BYTES = 16


class YSweet(YWebSocket):
    """The codec of one socket."""

    def __init__(self) -> None:
        super().__init__()
        self.wants_acks = True  # also a viewer's "saved" has to be true

    def decode(self, frame: bytes) -> Inbound:
        kind, at = read_var_uint(frame, 0)
        if kind != SAVE:
            return super().decode(frame)
        version, at = read_var_bytes(frame, at)
        if at != len(frame) or len(version) > MAX_VERSION_BYTES:
            raise Malformed("A save message holds one short version and nothing else.")
        return SaveQuery(version)

    def encode(self, message: Outbound) -> bytes | None:
        if isinstance(message, SaveEcho):
            return bytes((SAVE,)) + write_var_bytes(message.version)
        return super().encode(message)

    def saved(self, count: int, seq: int) -> list[bytes]:
        """The echo says it."""
        return []
