"""The Hocuspocus dialect (providers 2, 3 and 4): many documents on one socket, each frame names its own.

    frame   = varstring address, varuint type, …        ping = 0x09, pong = 0x0A (a single byte, provider 4)
    address = document name, or document name + NUL + session id
    type    = 0 sync, 1 awareness, 2 auth, 3 query awareness, 5 stateless, 7 close, 8 sync status
    auth    = 0 token (client: varstring token [, varstring version]; server: "send me one"),
              1 denied (varstring reason), 2 authenticated (varstring "read-write" or "readonly")

Each raw address is a logical connection of its own, and what the server sends repeats it exactly. Types that
old providers do not know make them throw: nothing is sent that provider 2.15 would not understand, except
``close`` to those that told a version (4 and later).
"""

from dataclasses import dataclass

from collab_server.dialects.sync_body import (
    AUTH,
    decode_awareness,
    decode_query,
    decode_sync,
    encode_body,
    expect_end,
)
from collab_server.live.lib0 import read_var_string, read_var_uint, write_var_string
from collab_server.live.messages import (
    CredentialWanted,
    Denied,
    Granted,
    Inbound,
    NotSaved,
    Outbound,
)
from schemas.errors import Malformed

STATELESS, CLOSE, SYNC_STATUS = 5, 7, 8
PONG = b"\x0a"
MAX_ADDRESS_BYTES = 512


@dataclass(frozen=True, slots=True)
class Credential:
    """The client presents a token; ``version`` is empty before provider 4."""

    token: str
    version: str


@dataclass(frozen=True, slots=True)
class Detach:
    """The client leaves this document and keeps the socket."""


@dataclass(frozen=True, slots=True)
class Stateless:
    """An application-defined string. This server gives it no meaning."""

    payload: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping; belongs to no document."""


Content = Inbound | Credential | Detach | Stateless


def decode(frame: bytes) -> tuple[str, Content] | Pong:
    """The address and what is said there. Raises ``Malformed``."""
    if frame == PONG:
        return Pong()
    address, at = read_var_string(frame, 0)
    if not address.partition("\0")[0] or at > MAX_ADDRESS_BYTES:
        raise Malformed("A frame does not name a document.")
    kind, at = read_var_uint(frame, at)
    match kind:
        case 0:
            return address, decode_sync(frame, at)
        case 1:
            return address, decode_awareness(frame, at)
        case 2:
            return address, _decode_auth(frame, at)
        case 3:
            return address, decode_query(frame, at)
        case 5:
            payload, at = read_var_string(frame, at)
            expect_end(frame, at)
            return address, Stateless(payload)
        case 7:
            return address, Detach()
    raise Malformed(f"Clients send no message of type {kind}.")


def _decode_auth(frame: bytes, at: int) -> Credential:
    kind, at = read_var_uint(frame, at)
    if kind != 0:
        raise Malformed("Clients send tokens only.")
    token, at = read_var_string(frame, at)
    version = ""
    if at < len(frame):
        version, at = read_var_string(frame, at)
    expect_end(frame, at)
    return Credential(token, version)


def document_of(address: str) -> str:
    """The document's name: what stands before the first NUL."""
    return address.partition("\0")[0]


class Hocuspocus:
    """The codec of one logical connection. Its provider counts acks."""

    wants_acks = True
    wants_echo = False

    def __init__(self, address: str, version: str = "") -> None:
        self.prefix = write_var_string(address)
        self._version = version

    def encode(self, message: Outbound) -> bytes | None:
        """The frame, or None for what this dialect cannot say."""
        body = encode_body(message)
        if body is None:
            body = self._encode_own(message)
        return None if body is None else self.prefix + body

    def _encode_own(self, message: Outbound) -> bytes | None:
        match message:
            case NotSaved():
                return bytes((SYNC_STATUS, 0))
            case Granted(may_write):
                return bytes((AUTH, 2)) + write_var_string("read-write" if may_write else "readonly")
            case Denied(error):
                return bytes((AUTH, 1)) + write_var_string(error.slug)
            case CredentialWanted():
                return bytes((AUTH, 0))
            case _:
                return None

    def saved(self, count: int, seq: int) -> list[bytes]:
        """The frames that ack ``count`` messages: the provider counts one sync status per message."""
        return [self.prefix + bytes((SYNC_STATUS, 1))] * count

    def close_frame(self, reason: str) -> bytes | None:
        """Ends this document on the socket; None for providers that would throw on it."""
        if not self._version:
            return None
        return self.prefix + bytes((CLOSE,)) + write_var_string(reason)
