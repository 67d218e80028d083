"""Opaque secrets: refresh tokens and one-time tickets. Stored only as SHA-256; they carry 256 random bits,
so a slow hash would protect nothing more."""

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass

TICKET_PREFIX = "tkt_"
REFRESH_PREFIX = "rft_"  # recognisable to secret scanners and to people reading a leaked file
_SECRET_BYTES = 32
_TAG_BYTES = 16
_TICKET = re.compile(r"tkt_[A-Za-z0-9_-]{43}")
_REFRESH = re.compile(r"rft_[A-Za-z0-9_-]{86}")


def digest(secret: str) -> bytes:
    """What is stored of an opaque secret: 32 bytes."""
    return hashlib.sha256(secret.encode()).digest()


def same(left: bytes, right: bytes | None) -> bool:
    """Constant-time comparison; None equals nothing."""
    return right is not None and hmac.compare_digest(left, right)


def new_ticket() -> str:
    return TICKET_PREFIX + _text(secrets.token_bytes(_SECRET_BYTES))


def is_ticket(text: str) -> bool:
    return _TICKET.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RefreshTokens:
    """Makes and recognises refresh tokens: ``rft_`` + base64url(session id, 32 secret bytes, 16-byte tag).

    * The successor is derived from its predecessor under ``key``, so that a client whose answer was lost,
      or a hundred parallel refreshes, get one and the same successor although only hashes are stored.
    * The tag proves that this server gave the token to that session. Without it anybody who has seen a
      session id could present rubbish as "a rotated token" and end somebody else's session.

    ``key`` is 32 bytes and stays on the server; losing it costs nobody a session, only reuse detection.
    """

    key: bytes

    def first(self, session_id: str) -> str:
        return self._assemble(uuid.UUID(session_id).bytes, secrets.token_bytes(_SECRET_BYTES))

    def successor(self, token: str) -> str:
        """The one token that follows ``token``, which must be well formed (``session_of`` is not None)."""
        raw = _raw(token)
        return self._assemble(raw[:16], hmac.digest(self.key, b"successor\0" + raw, "sha256"))

    def session_of(self, token: str) -> str | None:
        """The session named in a token, not yet believed; None when it is no refresh token at all."""
        if _REFRESH.fullmatch(token) is None:
            return None
        return str(uuid.UUID(bytes=_raw(token)[:16]))

    def issued(self, token: str) -> bool:
        """Whether this server made the token for the session it names."""
        raw = _raw(token)
        return hmac.compare_digest(raw[-_TAG_BYTES:], self._tag(raw[:-_TAG_BYTES]))

    def _assemble(self, session: bytes, secret: bytes) -> str:
        return REFRESH_PREFIX + _text(session + secret + self._tag(session + secret))

    def _tag(self, raw: bytes) -> bytes:
        return hmac.digest(self.key, b"issued\0" + raw, "sha256")[:_TAG_BYTES]


def derive_key(secret: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose, so that no two uses share a key (HKDF-Expand with one block)."""
    return hmac.digest(secret, purpose.encode() + b"\x01", "sha256")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(token: str) -> bytes:
    body = token[len(REFRESH_PREFIX) :]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
