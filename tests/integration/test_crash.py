"""A few kills under load; `make faults` has many more, and the faults that take long."""

import asyncio
import time

import psutil

from tests.faults.campaign import campaign
from tests.faults.ledger import ZERO


async def test_what_was_acked_or_seen_survives_kill_9() -> None:
    async with campaign("sqlite", seed=1) as faults:
        for _ in range(2):
            await faults.kill("--commit-ms", "30")
        await faults.workload.rest()
        figures = faults.figures()

    assert {name: figures[name] for name in ZERO} == dict.fromkeys(ZERO, 0)
    assert figures["acked"] > 20
    assert figures["seen"] > 20
    assert figures["refusals"] > 0


async def test_a_killed_server_leaves_no_process_behind() -> None:
    async with campaign("sqlite", seed=2, per_second=60) as faults:
        server = psutil.Process(faults.server.pid)
        deadline = time.monotonic() + 15
        while not (children := server.children(recursive=True)) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert children, "no compaction was started"
        await asyncio.sleep(1)  # for the worker to be up
        children = server.children(recursive=True)
        await faults.server.kill()
        _, left = await asyncio.to_thread(psutil.wait_procs, children, 5)

    assert not left
