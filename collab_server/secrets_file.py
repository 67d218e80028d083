"""The secret behind access tokens: from the settings, or in development made once and kept in a file."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from auth.tokens import MIN_SECRET_BYTES
from collab_server.settings import Settings
from schemas.errors import ConfigurationError

FILE_NAME = "jwt.secret"
_HOW = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"


def jwt_secret(settings: Settings) -> bytes:
    """At least 32 bytes. Raises ``ConfigurationError``: in production the secret has no default.

    In development it is made once in ``data_dir/jwt.secret``, readable only by its owner, so that a
    restart signs nobody out.
    """
    if settings.jwt_secret is not None:
        return _checked(settings.jwt_secret.get_secret_value().encode(), "COLLAB_JWT_SECRET")
    if settings.environment == "production":
        raise ConfigurationError(f"COLLAB_JWT_SECRET must be set in production: {_HOW}")
    path = settings.data_dir / FILE_NAME
    try:
        with suppress(FileExistsError):
            _make(path)
        return _checked(path.read_bytes().strip(), str(path))
    except OSError as error:
        raise ConfigurationError(f"The secret in {path} cannot be used: {error.strerror}.") from error


def _checked(secret: bytes, where: str) -> bytes:
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigurationError(f"{where} needs at least {MIN_SECRET_BYTES} bytes: {_HOW}")
    if len(set(secret)) < 10:  # 0000…, changeme-changeme…: long, yet the first that is tried
        raise ConfigurationError(f"{where} is not random: {_HOW}")
    return secret


def _make(path: Path) -> None:
    """Create the file complete or not at all: of two nodes starting at once both read the same secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    draft = path.with_name(f".{FILE_NAME}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_urlsafe(48).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()
