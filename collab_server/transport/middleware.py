"""What happens to every request, as plain ASGI around the app: outermost first in ``stack``."""

import re
import uuid
from collections.abc import Sequence
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collab_server.ports import Clock
from collab_server.transport.origins import OriginRules
from collab_server.transport.problems import ProblemResponse
from schemas.errors import OriginRefused, TooLarge

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")  # what we let into our log and back out
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)


def stack(rules: OriginRules, clock: Clock, *, max_body_bytes: int, https: bool) -> Sequence[Middleware]:
    return [
        Middleware(RequestContext, clock=clock),
        Middleware(SecurityHeaders, https=https),
        Middleware(Cors, rules=rules),
        Middleware(BodyLimit, max_bytes=max_body_bytes),
    ]


class RequestContext:
    """Gives every connection an id, writes one log line per request, and is the last to catch an error.

    The line has no query string, no headers and no body: tickets and tokens travel there.
    """

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self.app = app
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if scope["type"] == "websocket":
                return await self.app(scope, receive, send)
            await self._http(scope, receive, send, request_id)
        return None

    async def _http(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = self.clock.monotonic()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            log.exception("request_failed", error=type(error).__name__)
            if status == 0:
                await ProblemResponse(error, request_id)(scope, receive, watch)
        finally:
            client = scope.get("client")
            log.info(
                "request",
                method=scope["method"],
                path=quote(scope["path"], safe="/~:@"),  # no line of the log can be forged by a path
                status=status,
                ms=round((self.clock.monotonic() - started) * 1000, 1),
                client=client[0] if client else None,
            )


class SecurityHeaders:
    """On every response, also on errors. A response that sets its own policy keeps it."""

    def __init__(self, app: ASGIApp, https: bool) -> None:
        self.app = app
        self.https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        is_page = not scope["path"].startswith("/api/")

        async def protect(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", _PAGE_POLICY if is_page else _API_POLICY)
                headers.setdefault("Cache-Control", "no-cache" if is_page else "no-store")
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                if self.https:
                    headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
            await send(message)

        await self.app(scope, receive, protect)
        return None


class Cors:
    """An exact list of foreign origins. Whoever is not on it may not even send what changes something:
    some such requests need no preflight, so a missing CORS header alone would not stop them."""

    def __init__(self, app: ASGIApp, rules: OriginRules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        origin = headers.get("origin") if headers is not None else None
        if headers is None or origin is None:
            return await self.app(scope, receive, send)
        allowed = self.rules.allows(origin, headers.get("host"))
        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if not allowed and (preflight or scope["method"] not in _SAFE_METHODS):
            return await ProblemResponse(OriginRefused(), scope["state"]["request_id"])(scope, receive, send)
        if preflight:
            return await Response(status_code=204, headers=_preflight(origin))(scope, receive, send)

        async def share(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if allowed:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Access-Control-Expose-Headers"] = "Link, Location, Retry-After, X-Request-Id"
                    answer["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        await self.app(scope, receive, share)
        return None


class BodyLimit:
    """Counts while reading: a Content-Length may be missing or lie."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        announced = Headers(scope=scope).get("content-length", "0")
        if len(announced) > 15 or not announced.isdecimal() or int(announced) > self.max_bytes:
            return await ProblemResponse(TooLarge(), scope["state"]["request_id"])(scope, receive, send)
        read = 0

        async def count() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self.max_bytes:
                    raise HTTPException(413)  # the one exception that FastAPI lets through while parsing
            return message

        await self.app(scope, count, send)
        return None


def _request_id(given: str | None) -> str:
    return given if given is not None and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _preflight(origin: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }
