"""Starlette's and FastAPI's own errors, said in ours; and the handlers that answer with problems."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from collab_server.transport.problems import (
    MethodNotAllowed,
    ProblemResponse,
    UnsupportedMediaType,
)
from schemas.errors import (
    CollabError,
    FieldError,
    Forbidden,
    InvalidForm,
    Malformed,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthenticated,
)

_BY_STATUS: Mapping[int, type[CollabError]] = {
    400: Malformed,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: InvalidForm,
    429: RateLimited,
}
_MAX_FIELD_ERRORS = 20  # a hostile body can be wrong in thousands of places; people read the first few


def request_id_of(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


async def on_collab_error(request: Request, error: Exception) -> Response:
    return ProblemResponse(error, request_id_of(request))


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    meant = _BY_STATUS.get(error.status_code, CollabError)()
    return ProblemResponse(meant, request_id_of(request), error.headers)


async def on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return ProblemResponse(_meaning(error.errors()), request_id_of(request))


HANDLERS: Mapping[Any, ExceptionHandler] = {
    CollabError: on_collab_error,
    HTTPException: on_http_exception,
    RequestValidationError: on_validation_error,
}


def _meaning(found: Sequence[Any]) -> CollabError:
    """Never quotes the input: it may be a password."""
    broken = next((wrong for wrong in found if wrong["type"] == "json_invalid"), None)
    if broken is not None:
        return Malformed(f"The body is not valid JSON: {broken['ctx']['error']}.")
    return InvalidForm(
        errors=[
            FieldError(_pointer(wrong["loc"]), wrong["type"].replace("_", "-"), wrong["msg"])
            for wrong in found[:_MAX_FIELD_ERRORS]
        ]
    )


def _pointer(location: Sequence[str | int]) -> str:
    """RFC 6901, without the first step, which says body, query or path."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in location[1:])
    return "".join("/" + step for step in steps)
