"""The WebSocket endpoints: check the handshake, accept, hand the socket to its dialect's connection.

Before ``accept`` a refusal is a real HTTP answer (an early close would reach the client as a bare 403). A
credential that is refused is told after ``accept`` by its close code: y-websocket stops at 4400-4499 and
cannot see an HTTP status.
"""

from urllib.parse import parse_qs

import structlog
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Receive, Scope, Send

from collab_server.connections.hocuspocus import HocuspocusConnection
from collab_server.connections.socket import OpenSockets, Socket
from collab_server.connections.y_websocket import serve_y_websocket
from collab_server.dialects.y_sweet import YSweet
from collab_server.dialects.y_websocket import YWebSocket
from collab_server.fast_socket import EXTENSION
from collab_server.hub import Hub
from collab_server.services.access import AccessService
from collab_server.settings import Settings
from collab_server.transport.origins import OriginRules
from collab_server.transport.problems import ProblemResponse, close_for
from schemas.errors import CollabError, NotFound, OriginRefused, Restarting
from schemas.ids import new_id

BEARER_SUBPROTOCOL = "collab.bearer"
"""``Sec-WebSocket-Protocol: collab.bearer, <access token>``: a credential that no proxy log shows."""


class SocketEndpoint:
    """What both endpoints share. ``scope["state"]`` is that of the lifespan: ``app.State``."""

    def __init__(self, settings: Settings, rules: OriginRules) -> None:
        self._settings = settings
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hub: Hub = scope["state"]["hub"]
        error = self._refusal(scope, hub)
        if error is not None:
            headers = {"Retry-After": "1"} if isinstance(error, Restarting) else None
            answer = ProblemResponse(error, scope["state"]["request_id"], headers)
            return await answer(scope, receive, send)
        with structlog.contextvars.bound_contextvars(connection_id=new_id()[:8]):
            await receive()  # websocket.connect
            offered = scope.get("subprotocols") or []
            chosen = BEARER_SUBPROTOCOL if BEARER_SUBPROTOCOL in offered else None
            await send({"type": "websocket.accept", "subprotocol": chosen})
            fast = scope.get("extensions", {}).get(EXTENSION)
            socket = Socket(receive, send, self._settings.outbox_bytes, close_for, fast)
            sockets: OpenSockets = scope["state"]["sockets"]
            sockets.add(socket)
            try:
                await self.serve(scope, socket, hub, scope["state"]["services"].access)
            finally:
                sockets.discard(socket)
        return None

    def _refusal(self, scope: Scope, hub: Hub) -> CollabError | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")  # browsers always send it, and only they hold ambient credentials
        if origin is not None and not self._rules.allows(origin, headers.get("host")):
            return OriginRefused()
        return Restarting() if hub.draining else None

    async def serve(self, scope: Scope, socket: Socket, hub: Hub, access: AccessService) -> None:
        raise NotImplementedError


class YWebSocketEndpoint(SocketEndpoint):
    """``/ws/{document_id}?ticket=`` or ``?token=`` (y-websocket 1 to 3, and kin)."""

    async def serve(self, scope: Scope, socket: Socket, hub: Hub, access: AccessService) -> None:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        capabilities = ",".join(query.get("caps", [])).split(",")
        await serve_y_websocket(
            socket,
            hub,
            access,
            self._settings,
            document_id=scope["path_params"]["document_id"],
            credential=_credential(query, scope.get("subprotocols") or []),
            codec=YWebSocket(acks="ack" in capabilities, echo="echo" in capabilities),
        )


class YSweetEndpoint(SocketEndpoint):
    """``/d/{document_id}/ws/{document_id}?token=`` (y-sweet's client builds it from its client token)."""

    async def serve(self, scope: Scope, socket: Socket, hub: Hub, access: AccessService) -> None:
        document_id, room = scope["path_params"]["document_id"], scope["path_params"]["room"]
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        await serve_y_websocket(
            socket,
            hub,
            access,
            self._settings,
            document_id=document_id if room == document_id else "",
            credential=_credential(query, scope.get("subprotocols") or []),
            codec=YSweet(),
        )


class HocuspocusEndpoint(SocketEndpoint):
    """``/collab``: the documents and their credentials come in the frames."""

    async def serve(self, scope: Scope, socket: Socket, hub: Hub, access: AccessService) -> None:
        await HocuspocusConnection(socket, hub, access, self._settings).run()


class NoEndpoint:
    """Sockets are not served here: a real 404, where an early close would say 403."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = NotFound("No WebSocket is served here: see /ws/{id}, /collab and /d/{id}/ws/{id}.")
        await ProblemResponse(error, scope["state"]["request_id"])(scope, receive, send)


def _credential(query: dict[str, list[str]], subprotocols: list[str]) -> str:
    for name in ("ticket", "token"):
        if query.get(name):
            return query[name][0]
    if BEARER_SUBPROTOCOL in subprotocols[:-1]:
        return subprotocols[subprotocols.index(BEARER_SUBPROTOCOL) + 1]
    return ""


def socket_routes(settings: Settings, rules: OriginRules) -> list[BaseRoute]:
    return [
        WebSocketRoute("/ws/{document_id}", YWebSocketEndpoint(settings, rules), name="y-websocket"),
        WebSocketRoute("/d/{document_id}/ws/{room}", YSweetEndpoint(settings, rules), name="y-sweet"),
        WebSocketRoute("/collab", HocuspocusEndpoint(settings, rules), name="hocuspocus"),
        WebSocketRoute("/collab/", HocuspocusEndpoint(settings, rules), name="hocuspocus-slash"),
        WebSocketRoute("/{anything:path}", NoEndpoint(), name="no-socket"),
    ]
