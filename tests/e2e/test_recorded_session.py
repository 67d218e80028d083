"""A recorded editing session, typed keystroke by keystroke through one client, arrives whole at the others."""

import gzip
import json
from pathlib import Path

from tests.e2e.joining import join
from tests.node import NodeDriver
from tests.server import Server

SESSION = Path(__file__).parent.parent / "data" / "typing-session.json.gz"
KEYSTROKES = 2_598  # insertions and deletions, each typed as one transaction


def session() -> dict:
    return json.loads(gzip.decompress(SESSION.read_bytes()))


async def test_recorded_keystrokes_arrive_at_the_other_families_and_equal_the_recorded_end_text(
    node: NodeDriver, server: Server
) -> None:
    anna = await server.account("Anna")
    document = await server.document(anna)
    writer = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
    readers = [
        await (await join(node, server, anna, document, family)).wait_synced()
        for family in ("y-websocket-3", "hocuspocus-2")
    ]
    typed = await writer.type("text", file=SESSION)
    assert typed["keystrokes"] == KEYSTROKES
    end = session()["endContent"]
    for reader in readers:
        await reader.wait_text("text", end, timeout=60)
    await writer.wait_saved(timeout=60)
    await server.kill()
    await server.start()
    fresh = await (await join(node, server, anna, document, "y-websocket-1")).wait_synced()
    assert await fresh.text("text") == end


async def test_compacted_document_equals_the_recorded_end_text(node: NodeDriver, tmp_path) -> None:
    async with Server(tmp_path / "data", compact_after_updates=50, keep_rows_hours=0) as server:
        anna = await server.account("Anna")
        document = await server.document(anna)
        writer = await (await join(node, server, anna, document, "y-websocket-3")).wait_synced()
        reader = await (await join(node, server, anna, document, "hocuspocus-3")).wait_synced()
        await writer.type("text", file=SESSION, count=1_000, pace=1)
        end = await writer.text("text")
        await reader.wait_text("text", end, timeout=60)
        await server.stop()
        assert "compacted" in server.log_text()
        await server.start()
        fresh = await (await join(node, server, anna, document, "hocuspocus-4")).wait_synced()
        assert await fresh.text("text") == end
