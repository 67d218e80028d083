import pytest

from tests.node import NodeDriver


@pytest.fixture
async def node():
    """Real Yjs clients in one Node process; see tests/node.py."""
    async with NodeDriver() as driver:
        yield driver
