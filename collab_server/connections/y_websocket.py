"""A socket of a y-websocket or y-sweet client: one document, known from the path before the first frame."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from collab_server.connections.admission import admit, concerns_rights
from collab_server.connections.socket import Socket
from collab_server.dialects.y_websocket import YWebSocket
from collab_server.hub import Hub
from collab_server.live.messages import Denied
from collab_server.peers import Peer
from collab_server.services.access import AccessService
from collab_server.settings import Settings
from schemas.errors import CollabError, IdleTimeout

REFUSAL_DELAY_SECONDS = 0.5
"""y-websocket before 3.1 takes every accepted socket for a success and comes back after 100 ms, whatever the
close code: this keeps one revoked tab from knocking ten times a second."""


async def serve_y_websocket(
    socket: Socket,
    hub: Hub,
    access: AccessService,
    settings: Settings,
    *,
    document_id: str,
    credential: str,
    codec: YWebSocket,
) -> None:
    """Run one accepted socket to its end."""
    try:
        async with asyncio.timeout(settings.auth_deadline_seconds):
            granted = await admit(access, credential, document_id)
    except TimeoutError:
        return await _refuse(socket, codec, IdleTimeout())
    except CollabError as error:
        return await _refuse(socket, codec, error)

    def end(peer: Peer, error: CollabError) -> None:
        if concerns_rights(error):
            peer.send(Denied(error))
        socket.close(error)

    peer = Peer(granted, codec, socket.outbox, end)
    try:
        document = await hub.join(peer)
    except CollabError as error:
        return await _refuse(socket, codec, error)

    def take(frame: bytes) -> Coroutine[Any, Any, None] | None:
        try:
            hub.receive(document, peer, codec.decode(frame))
        except CollabError as error:
            hub.leave(document, peer)
            peer.end(error)
        return hub.room(document) if hub.congested(document) else None

    try:
        await socket.serve(take)
    finally:
        hub.leave(document, peer)
        await socket.finished()
    return None


async def _refuse(socket: Socket, codec: YWebSocket, error: CollabError) -> None:
    frame = codec.encode(Denied(error))
    if concerns_rights(error) and frame is not None:
        await asyncio.sleep(REFUSAL_DELAY_SECONDS)
        socket.outbox.push(frame)
    socket.close(error)
    while await socket.next_frame() is not None:
        pass
    await socket.finished()
