"""Access tokens: short JWTs of one algorithm and one type (RFC 9068, RFC 8725)."""

import base64
import binascii
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jwt

from schemas.errors import TokenExpired, Unauthenticated

ALGORITHM: Final = "HS256"
TYPE: Final = "at+jwt"
AUDIENCE: Final = "collab-server"
MIN_SECRET_BYTES = 32  # RFC 7518 3.2: a key at least as long as the hash
LEEWAY_SECONDS = 5  # between the clocks of two nodes
MAX_TOKEN_CHARACTERS = 2048  # ours are near 450; more is not worth a signature check

_YEAR_9999 = 253_370_764_800  # later ones are no dates in Python
_CLAIMS = ("iss", "aud", "sub", "sid", "iat", "exp", "jti")
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}")
_OPTIONS: dict[str, Any] = {
    "require": list(_CLAIMS),
    # PyJWT would ask the machine for the time; ours is handed in and checked below.
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "strict_aud": True,
}


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Who an access token speaks for. Times are UTC."""

    account_id: str
    session_id: str
    token_id: str
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class AccessTokens:
    """Issues and verifies. ``secret`` is at least 32 bytes; ``issuer`` is this server's public URL."""

    secret: bytes
    issuer: str
    lifetime_seconds: int

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_SECRET_BYTES:
            raise ValueError("the secret of access tokens needs at least 256 bits")

    def issue(self, account_id: str, session_id: str, now: datetime) -> str:
        issued = int(now.timestamp())
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": account_id,
            "sid": session_id,
            "iat": issued,
            "exp": issued + self.lifetime_seconds,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(claims, self.secret, algorithm=ALGORITHM, headers={"typ": TYPE})

    def verify(self, token: str, now: datetime) -> AccessClaims:
        """The claims of a token that is ours, whole and current.

        Raises ``TokenExpired``, or ``Unauthenticated`` for everything else, without saying why.
        """
        _check_shape(token)
        try:
            claims = jwt.decode(
                token,
                self.secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self.issuer,
                options=_OPTIONS,  # type: ignore[arg-type]
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated from error
        return _believe(claims, now)


def _check_shape(token: str) -> None:
    """Refuse what only looks like one of ours, before any cryptography.

    The header must hold exactly our two fields: no ``none``, no other algorithm, no embedded key (``jwk``,
    ``jku``, ``x5u``), no ``kid``, no ``crit``, and no other type of token in an access token's place.
    """
    if len(token) > MAX_TOKEN_CHARACTERS or _COMPACT.fullmatch(token) is None:
        raise Unauthenticated
    header, _, signature = token.split(".")
    try:
        fields = json.loads(_decode(header))
        # Base64 of 32 bytes has spare bits at its end: four spellings of one signature. Only one is ours.
        spelled = base64.urlsafe_b64encode(_decode(signature)).decode().rstrip("=")
    except (ValueError, RecursionError) as error:
        raise Unauthenticated from error
    if fields != {"alg": ALGORITHM, "typ": TYPE} or spelled != signature:
        raise Unauthenticated


def _decode(segment: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise ValueError(segment) from error


def _believe(claims: dict[str, Any], now: datetime) -> AccessClaims:
    subject, session, token_id = (claims[name] for name in ("sub", "sid", "jti"))
    issued, expires = (claims[name] for name in ("iat", "exp"))
    if not all(isinstance(text, str) and text for text in (subject, session, token_id)):
        raise Unauthenticated
    if not all(type(time) is int and 0 < time < _YEAR_9999 for time in (issued, expires)):
        raise Unauthenticated
    issued_at, expires_at = datetime.fromtimestamp(issued, UTC), datetime.fromtimestamp(expires, UTC)
    if (issued_at - now).total_seconds() > LEEWAY_SECONDS:
        raise Unauthenticated
    if (now - expires_at).total_seconds() >= LEEWAY_SECONDS:
        raise TokenExpired
    return AccessClaims(subject, session, token_id, issued_at, expires_at)
