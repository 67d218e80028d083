import pytest

from tests.node import NodeDriver
from tests.server import Server


@pytest.fixture
async def node():
    """Real Yjs clients in one Node process; see tests/node.py."""
    async with NodeDriver() as driver:
        yield driver


@pytest.fixture
async def server(tmp_path):
    """Our server in a process of its own; its log is shown when the test fails. See tests/server.py."""
    async with Server(tmp_path / "data") as running:
        yield running
    print(running.log_text())
