"""The one error tree.

An error carries a stable ``slug`` and a sentence for people; it knows nothing of HTTP or WebSockets:
``collab_server/transport/problems.py`` maps each class to a status and a close code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request. ``pointer`` is an RFC 6901 JSON pointer."""

    pointer: str
    code: str
    detail: str


class ConfigurationError(Exception):
    """The settings make no server. For the operator only: it never crosses the wire."""


class CollabError(Exception):
    """Any error this server means. ``detail`` is safe to show to whoever caused it."""

    slug: ClassVar[str] = "internal"
    sentence: ClassVar[str] = "Something went wrong on our side."

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_seconds: int | None = None,
    ) -> None:
        self.detail = detail or self.sentence
        self.errors = tuple(errors)
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.detail)


class Malformed(CollabError):
    """A frame, an update or a request body that cannot be what it claims to be."""

    slug = "malformed"
    sentence = "The message could not be understood."


class InvalidForm(CollabError):
    slug = "validation"
    sentence = "Some fields are not valid."


class Unauthenticated(CollabError):
    slug = "unauthenticated"
    sentence = "Sign in first: the credentials are missing, wrong or revoked."


class WrongCredentials(Unauthenticated):
    slug = "wrong-credentials"
    sentence = "The e-mail address or the password is wrong."


class TokenExpired(Unauthenticated):
    slug = "token-expired"
    sentence = "The token has expired: get a new one."


class Forbidden(CollabError):
    slug = "forbidden"
    sentence = "Your role does not allow this."


class OriginRefused(Forbidden):
    slug = "origin"
    sentence = "Connections from this web origin are not allowed."


class ReadOnly(Forbidden):
    slug = "read-only"
    sentence = "You may read this document but not change it."


class RoleRevoked(Forbidden):
    slug = "role-revoked"
    sentence = "You no longer have access to this document."


class ClientIdOwned(Forbidden):
    slug = "client-id-owned"
    sentence = "This Yjs client id belongs to another principal in this document."


class NotFound(CollabError):
    """Also for what exists but is not for the one who asks."""

    slug = "not-found"
    sentence = "There is no such thing, or it is not for you."


class DocumentNotFound(NotFound):
    slug = "document-not-found"
    sentence = "There is no such document, or it is not for you."


class AccountNotFound(NotFound):
    slug = "account-not-found"
    sentence = "There is no such account, or it is not for you."


class Conflict(CollabError):
    slug = "conflict"
    sentence = "This contradicts what is already there."


class EmailTaken(Conflict):
    slug = "email-taken"
    sentence = "An account with this e-mail address exists already."


class AlreadyMember(Conflict):
    slug = "already-member"
    sentence = "This account is a member already: change its role instead."


class DocumentExists(Conflict):
    slug = "document-exists"
    sentence = "A document with this id exists already."


class LastOwner(Conflict):
    slug = "last-owner"
    sentence = "A document needs an owner: make somebody else the owner first."


class DocumentReset(CollabError):
    slug = "document-reset"
    sentence = "This replica no longer shares the document's history: drop its local state and open it again."


class TooLarge(CollabError):
    slug = "too-large"
    sentence = "That is larger than this server accepts."


class RateLimited(CollabError):
    slug = "rate-limited"
    sentence = "Too many requests: slow down."


class Overloaded(CollabError):
    slug = "overloaded"
    sentence = "The server has more to do than it can: try again shortly."


class SlowPeer(CollabError):
    slug = "slow-peer"
    sentence = "The connection could not keep up with the document: reconnect to catch up."


class IdleTimeout(CollabError):
    slug = "timeout"
    sentence = "Nothing was heard for too long."


class StorageUnavailable(CollabError):
    slug = "storage-unavailable"
    sentence = "The storage is not available right now: try again shortly."


class StorageFull(StorageUnavailable):
    slug = "storage-full"
    sentence = "The storage is full: nothing more can be saved."


class DocumentDamaged(StorageUnavailable):
    slug = "document-damaged"
    sentence = "The stored document does not pass its checks: an operator has to look at it."


class Restarting(CollabError):
    slug = "restarting"
    sentence = "This node is going away: reconnect."
