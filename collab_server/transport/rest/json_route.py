"""Strict JSON: what two parsers could read in two ways is refused."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from collab_server.transport.problems import UnsupportedMediaType

MAX_DEPTH = 32


class JsonRoute(APIRoute):
    """A route whose body, if it has one, is application/json and nothing else: other types could be sent
    across origins by a plain HTML form, without a preflight."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            if takes_body and _media_type(request) != "application/json":
                raise UnsupportedMediaType
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


class StrictRequest(Request):
    async def json(self) -> Any:
        """Raises ``json.JSONDecodeError``, which FastAPI reports as malformed, also for NaN, a key given
        twice, and nesting that only means to hurt."""
        body = await self.body()
        try:
            text = body.decode()  # UTF-8 only, no guessing
            value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
            if _deeper_than(value, MAX_DEPTH):
                raise ValueError("nested too deeply")
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise json.JSONDecodeError(reason, "", 0) from error
        return value


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        inner: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return False
        layer = inner
    return True
