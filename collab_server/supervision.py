"""Long-running tasks that nothing silently survives: they are restarted, and it is said."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)
RESTART_PAUSE_SECONDS = 0.2


async def supervised(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run ``run`` for ever; a failure of any kind (a panic of the engine is no ``Exception``) restarts it."""
    while True:
        try:
            await run()
            return
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            log.exception("a background task failed and is restarted", task=name)
            await asyncio.sleep(RESTART_PAUSE_SECONDS)


class BackgroundTasks:
    """One-off tasks with an owner: they are kept from the garbage collector, and their failures are logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except BaseException:
                log.exception("a background task failed", task=name)

        task = asyncio.get_running_loop().create_task(guarded(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
