"""Identifiers and what they may look like."""

import re
import uuid
from typing import NewType

DocumentId = NewType("DocumentId", str)
AccountId = NewType("AccountId", str)
SessionId = NewType("SessionId", str)
Principal = NewType("Principal", str)
"""Who caused a change: ``account:<id>``, ``share:<id>`` or ``server``."""

SERVER = Principal("server")

DOCUMENT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$"
"""A client may choose a document's id (made offline, or migrated from another server). One URL path
segment without escaping, so that the same name works in every dialect."""

_DOCUMENT_ID = re.compile(DOCUMENT_ID_PATTERN + r"\Z")


def new_id() -> str:
    """A random UUIDv4 in its usual 36 characters."""
    return str(uuid.uuid4())


def is_document_id(text: str) -> bool:
    return _DOCUMENT_ID.match(text) is not None


def principal_of(account_id: AccountId) -> Principal:
    return Principal(f"account:{account_id}")
