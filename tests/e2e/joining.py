"""A client with an account's access token, configured as an application would."""

from tests.node import Y_WEBSOCKET, NodeClient, NodeDriver
from tests.server import Account, Server


async def join(node: NodeDriver, server: Server, who: Account, document: str, family: str, **more) -> NodeClient:
    """``params`` are added to a y-websocket client's query; other options as in ``NodeDriver.connect``."""
    if family in Y_WEBSOCKET:
        params = {"token": who.token, **more.pop("params", {})}
        return await node.connect(family, server.ws_url, document, params=params, **more)
    return await node.connect(family, server.collab_url, document, token=who.token, **more)
