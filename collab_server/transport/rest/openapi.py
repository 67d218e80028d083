"""The OpenAPI description: what FastAPI derives, with problems told as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from collab_server.transport.problems import MEDIA_TYPE, TYPE_PREFIX, UnsupportedMediaType, row_of
from schemas import errors
from schemas.errors import CollabError
from schemas.forms.server import HealthView, Problem

Responses = dict[int | str, dict[str, Any]]

_ALWAYS = (errors.StorageUnavailable, errors.StorageFull, errors.CollabError)
_SIGNED_IN = (errors.Unauthenticated, errors.TokenExpired)
_WITH_BODY = (
    errors.Malformed,
    errors.TooLarge,
    UnsupportedMediaType,
    errors.InvalidForm,
    errors.OriginRefused,
)


def problems(
    *may: type[CollabError], signed_in: bool = True, body: bool = False, changes: bool = False
) -> Responses:
    """The ``responses`` of a route: what it may raise, and what every route of its sort may.

    ``signed_in``: it asks for an access token; ``body``: it takes JSON; ``changes``: without a body, yet it
    changes something, so it is refused for foreign origins.
    """
    kinds = [*may, *_ALWAYS, *(_SIGNED_IN if signed_in else ()), *(_WITH_BODY if body else ())]
    if changes:
        kinds.append(errors.OriginRefused)
    grouped: dict[int, list[type[CollabError]]] = {}
    for kind in dict.fromkeys(kinds):
        grouped.setdefault(row_of(kind).status, []).append(kind)
    return {status: _response(kinds) for status, kinds in sorted(grouped.items())}


def describe(api: FastAPI, prefix: str) -> dict[str, Any]:
    """The document served at /api/openapi.json; ``prefix`` is where ``api`` is mounted."""
    document = get_openapi(
        title=api.title,
        version=api.version,
        summary=api.summary,
        description=api.description,
        routes=api.routes,
        tags=api.openapi_tags,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    document["servers"] = [{"url": "/"}]
    document["paths"] = {prefix + path: item for path, item in document["paths"].items()} | _health_paths()
    schemas = document["components"]["schemas"]
    _forget_fastapis_own_errors(document)
    for model in (Problem, HealthView):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    return document


def _forget_fastapis_own_errors(document: dict[str, Any]) -> None:
    """FastAPI promises its own 422 on every route with a parameter. We send no such body, and a route whose
    parameters are plain text cannot answer 422 at all."""
    for item in document["paths"].values():
        for operation in item.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)


def _response(kinds: Sequence[type[CollabError]]) -> dict[str, Any]:
    row = row_of(kinds[0])
    response: dict[str, Any] = {
        "description": " / ".join(dict.fromkeys(row_of(kind).title for kind in kinds)),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {kind.slug: {"value": _example(kind)} for kind in kinds},
            }
        },
    }
    if row.status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return response


def _example(kind: type[CollabError]) -> Mapping[str, Any]:
    row = row_of(kind)
    return {
        "type": TYPE_PREFIX + kind.slug,
        "title": row.title,
        "status": row.status,
        "detail": kind.sentence,
        "instance": "9f1c6a0e5b7d4c3e8a2f1b0c9d8e7f60",
    }


def _health_paths() -> dict[str, Any]:
    """The two routes outside the mounted part."""
    good = {
        "description": "Yes",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HealthView"}}},
    }
    unready = {str(status): response for status, response in problems(signed_in=False).items()}
    return {
        "/healthz": {
            "get": {
                "operationId": "healthz",
                "tags": ["server"],
                "summary": "Whether the process lives",
                "responses": {"200": good},
            }
        },
        "/readyz": {
            "get": {
                "operationId": "readyz",
                "tags": ["server"],
                "summary": "Whether it can work: the database answers and has the right schema",
                "responses": {"200": good} | unready,
            }
        },
    }
