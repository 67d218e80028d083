"""A document of some server as its clients address it: where they connect and how their frames look.

Written from the protocols (y-protocols PROTOCOL.md, the Hocuspocus provider), not with the server's codecs.
"""

from dataclasses import dataclass

EMPTY_STEP_1 = b"\x00\x00\x01\x00"  # sync, step 1, a state vector of no clients
EMPTY_STEP_2 = b"\x00\x01\x02\x00\x00"  # sync, step 2, an update of nothing
STEP_1, STEP_2, UPDATE = b"\x00\x00", b"\x00\x01", b"\x00\x02"


def varuint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def read_varuint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


@dataclass(frozen=True)
class Room:
    """``prefix`` stands before every frame; ``greeting`` is what a client says first."""

    port: int
    path: str
    prefix: bytes = b""
    greeting: tuple[bytes, ...] = (EMPTY_STEP_1,)

    def update_frame(self, update: bytes) -> bytes:
        return self.prefix + UPDATE + varuint(len(update)) + update

    def update_in(self, payload: bytes) -> bytes:
        """The update of a frame that carries one (an update, or a sync step 2)."""
        size, at = read_varuint(payload, len(self.prefix) + 2)
        assert at + size == len(payload), "a frame has one message"
        return payload[at:]


def y_websocket_room(port: int, path: str) -> Room:
    """The document is in the path."""
    return Room(port, path)


def hocuspocus_room(port: int, path: str, name: str, token: str) -> Room:
    """The document is in the frames, and so is the credential."""
    prefix = varuint(len(name)) + name.encode()
    version = b"4.8.0"
    credential = b"\x02\x00" + varuint(len(token)) + token.encode() + varuint(len(version)) + version
    return Room(port, path, prefix, (prefix + credential, prefix + EMPTY_STEP_1))
