"""The documents as a fresh process finds them in the database: no server, and none of its replicas.

python -m tests.faults.replay sqlite+aiosqlite:///collab.db <document>…     # JSON: id -> content
"""

import asyncio
import json
import sys
from pathlib import Path
from random import Random

from persistence.database import Database
from persistence.update_log import open_update_log
from tests.faults.replica import TokenDoc

ROOT = Path(__file__).parent.parent.parent


async def replay(url: str, documents: list[str]) -> dict[str, str]:
    database = await Database.open(url, read_only=True)
    try:
        log = open_update_log(database)
        contents = {}
        for document in documents:
            stored = await log.load(document)
            replica = TokenDoc(Random(0))
            for piece in stored.checkpoint.pieces if stored.checkpoint else ():
                replica.apply(piece)
            for row in stored.rows:
                for entry in row.entries:
                    replica.apply(entry.update)
            contents[document] = replica.content()
        return contents
    finally:
        await database.close()


async def in_fresh_process(url: str, documents: list[str]) -> dict[str, str]:
    """The same, run by a process of its own."""
    command = [sys.executable, "-m", "tests.faults.replay", url, *documents]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    answer, errors = await process.communicate()
    assert process.returncode == 0, f"the database cannot be replayed: {errors.decode()[-2000:]}"
    contents: dict[str, str] = json.loads(answer)
    return contents


if __name__ == "__main__":
    print(json.dumps(asyncio.run(replay(sys.argv[1], sys.argv[2:]))))
