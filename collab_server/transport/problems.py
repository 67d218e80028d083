"""THE error table: what each error is on HTTP and on a socket. ``docs/errors.md`` mirrors it.

Everything that is not in the table is 500 / 1011 and says nothing of what happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

from schemas import errors
from schemas.errors import CollabError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:collab:problem:"


class MethodNotAllowed(CollabError):
    slug = "method-not-allowed"
    sentence = "This address does not know that method."


class UnsupportedMediaType(CollabError):
    slug = "unsupported-media-type"
    sentence = "The body must be application/json."


@dataclass(frozen=True, slots=True)
class Row:
    """``status`` for HTTP, ``close`` for a socket. 4400 to 4499 are final for y-websocket clients: they
    stop and do not come back, so nothing that may pass by itself has such a code."""

    status: int
    close: int
    title: str


TABLE: Mapping[type[CollabError], Row] = {
    errors.CollabError: Row(500, 1011, "Internal error"),
    errors.Malformed: Row(400, 4400, "Malformed message"),
    errors.InvalidForm: Row(422, 4400, "Invalid fields"),
    errors.Unauthenticated: Row(401, 4401, "Not signed in"),
    errors.WrongCredentials: Row(401, 4401, "Wrong credentials"),
    errors.TokenExpired: Row(401, 4401, "Token expired"),
    errors.Forbidden: Row(403, 4403, "Forbidden"),
    errors.OriginRefused: Row(403, 4403, "Origin refused"),
    errors.ReadOnly: Row(403, 4403, "Read only"),
    errors.RoleRevoked: Row(403, 4403, "Access revoked"),
    errors.ClientIdOwned: Row(403, 4403, "Foreign client id"),
    errors.NotFound: Row(404, 4404, "Not found"),
    errors.DocumentNotFound: Row(404, 4404, "Document not found"),
    errors.AccountNotFound: Row(404, 4404, "Account not found"),
    # Not 4409: that one tells clients to drop their local state.
    errors.Conflict: Row(409, 4400, "Conflict"),
    errors.EmailTaken: Row(409, 4400, "E-mail address taken"),
    errors.AlreadyMember: Row(409, 4400, "Already a member"),
    errors.DocumentExists: Row(409, 4400, "Document exists"),
    errors.LastOwner: Row(409, 4400, "Last owner"),
    errors.DocumentReset: Row(409, 4409, "Document was reset"),
    errors.TooLarge: Row(413, 4413, "Too large"),
    errors.RateLimited: Row(429, 4529, "Too many requests"),
    errors.Overloaded: Row(503, 1013, "Overloaded"),
    errors.SlowPeer: Row(503, 1013, "Too slow"),
    errors.IdleTimeout: Row(408, 4508, "Timeout"),
    errors.StorageUnavailable: Row(503, 4503, "Storage unavailable"),
    errors.StorageFull: Row(507, 4503, "Storage full"),
    errors.DocumentDamaged: Row(503, 4503, "Document damaged"),
    errors.Restarting: Row(503, 1012, "Restarting"),
    MethodNotAllowed: Row(405, 4400, "Method not allowed"),
    UnsupportedMediaType: Row(415, 4400, "Unsupported media type"),
}


def row_of(kind: type[CollabError]) -> Row:
    """The row of a class, or of its nearest listed parent."""
    return next(TABLE[parent] for parent in kind.__mro__ if parent in TABLE)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as HTTP says it."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_for(error: BaseException, instance: str = "") -> Problem:
    """RFC 9457 problem details; ``instance`` is the request id."""
    meant = error if isinstance(error, CollabError) else CollabError()
    row = row_of(type(meant))
    headers = {}
    if row.status == 401:
        headers["WWW-Authenticate"] = _challenge(meant)
    if meant.retry_after_seconds is not None:
        headers["Retry-After"] = str(meant.retry_after_seconds)
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + meant.slug,
        "title": row.title,
        "status": row.status,
        "detail": meant.detail,
        "instance": instance,
    }
    if meant.errors:
        body["errors"] = [
            {"pointer": wrong.pointer, "code": wrong.code, "detail": wrong.detail} for wrong in meant.errors
        ]
    return Problem(row.status, body, headers)


def close_for(error: BaseException) -> tuple[int, str]:
    """The close code and reason of a socket. The reason is the slug: stable, and far below the 123 bytes
    that fit into a close frame."""
    if not isinstance(error, CollabError):
        return TABLE[CollabError].close, CollabError.slug
    return row_of(type(error)).close, error.slug


class ProblemResponse(JSONResponse):
    """An error as a response. Never cached: the next answer may be another."""

    media_type = MEDIA_TYPE

    def __init__(self, error: BaseException, instance: str = "", headers: Mapping[str, str] | None = None) -> None:
        problem = problem_for(error, instance)
        super().__init__(
            problem.body,
            status_code=problem.status,
            headers={"Cache-Control": "no-store", **(headers or {}), **problem.headers},
        )


def _challenge(error: CollabError) -> str:
    """RFC 6750 3: a request without credentials is told no error code."""
    if isinstance(error, errors.TokenExpired):
        return 'Bearer realm="collab", error="invalid_token", error_description="expired"'
    return 'Bearer realm="collab"'
