"""The two dialects as a client writes and reads them. Of our own, so that a mistake of the server's codec is
not mirrored here."""

from dataclasses import dataclass

SYNC, AWARENESS, AUTH, CLOSE, SYNC_STATUS, SAVED = 0, 1, 2, 7, 8, 101
STEP1, STEP2, UPDATE = 0, 1, 2


def uint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_uint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def sized(data: bytes) -> bytes:
    return uint(len(data)) + data


def read_sized(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = read_uint(data, at)
    assert at + size <= len(data), "the server sent a truncated frame"
    return data[at : at + size], at + size


def sync(step: int, payload: bytes) -> bytes:
    return bytes((SYNC, step)) + sized(payload)


def awareness(client: int, clock: int, state: str) -> bytes:
    return bytes((AWARENESS,)) + sized(uint(1) + uint(client) + uint(clock) + sized(state.encode()))


@dataclass(frozen=True, slots=True)
class Received:
    """One frame of the server. ``kind`` is its type; ``step`` a sync step, an auth answer, or the number of
    messages acked."""

    kind: int
    step: int = 0
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Dialect:
    """``hocuspocus`` names the document in each frame, ``y-websocket`` in its path."""

    name: str
    document: str

    @property
    def prefix(self) -> bytes:
        return sized(self.document.encode()) if self.name == "hocuspocus" else b""

    def address(self, socket_url: str, token: str) -> str:
        if self.name == "hocuspocus":
            return f"{socket_url}/collab"
        return f"{socket_url}/ws/{self.document}?token={token}&caps=ack"

    def greeting(self, token: str) -> list[bytes]:
        """What goes out before anything else."""
        if self.name == "hocuspocus":
            return [self.prefix + bytes((AUTH, 0)) + sized(token.encode())]
        return []

    def read(self, frame: bytes) -> Received | None:
        """None for what says nothing of the document, such as a ping."""
        at = 0
        if self.name == "hocuspocus":
            if len(frame) < 2:
                return None
            address, at = read_sized(frame, 0)
            assert address.decode() == self.document, "a frame for somebody else's document"
        kind, at = read_uint(frame, at)
        if kind == SYNC:
            step, at = read_uint(frame, at)
            payload, at = read_sized(frame, at)
            return Received(kind, step, payload)
        if kind == SYNC_STATUS:
            saved, at = read_uint(frame, at)
            return Received(SAVED, 1) if saved else Received(SYNC_STATUS)
        if kind == SAVED:
            count, at = read_uint(frame, at)
            return Received(kind, count)
        if kind == AUTH:
            answer, at = read_uint(frame, at)
            denied = answer == (1 if self.name == "hocuspocus" else 0)
            # y-websocket has one word for "not saved" and "go away"; the socket's close tells them apart.
            return Received(SYNC_STATUS) if denied and self.name != "hocuspocus" else Received(kind, answer)
        return None
