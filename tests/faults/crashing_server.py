"""The server, started with something broken: it dies at a named point, its storage fails, or its code has a
bug put in (a mutant), so that the checker can be checked. The server's own code knows nothing of this.

    python -m tests.faults.crashing_server --crash before-commit --hit 3
    python -m tests.faults.crashing_server --mutant ack-before-commit --commit-ms 50
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from collab_server import __main__ as command_line
from collab_server import compaction, hub, node
from collab_server.commit import Committer
from collab_server.open_document import OpenDocument
from collab_server.settlement import Settlement
from persistence import update_log_sqlite
from persistence.update_log_postgres import PostgresLog
from schemas.errors import StorageUnavailable
from tests.faults.mutants import MUTANTS

EXIT_CODE = 137  # as after SIGKILL

BEFORE_COMMIT, IN_COMMIT, AFTER_COMMIT = "before-commit", "inside-commit", "after-commit-before-show"
CRASH_POINTS = (
    BEFORE_COMMIT,
    IN_COMMIT,
    AFTER_COMMIT,
    "after-show-before-ack",
    "after-ack",
    "compaction-merging",
    "compaction-before-checkpoint",
    "compaction-before-prune",
    "compaction-after-prune",
    "while-loading",
    "while-draining",
)
BREAKS = ("flusher-dies", "append-raises", "settle-raises", "settle-panics")


class Panic(BaseException):
    """As the engine's: no ``Exception``."""


class Countdown:
    """True at its n-th call, and never again."""

    def __init__(self, hits: int) -> None:
        self._left = hits

    def __call__(self) -> bool:
        self._left -= 1
        return self._left == 0


def exit_at(point: str, hits: int) -> None:
    """Let the process end at the ``hits``-th time it comes to ``point``."""
    now = Countdown(hits)

    def die() -> None:
        if now():
            os._exit(EXIT_CODE)

    match point:
        case "after-show-before-ack":
            after(OpenDocument, "show", die)
        case "after-ack":
            after(Settlement, "_committed", die)
        case "inside-commit":
            after(update_log_sqlite, "_append_one", die)
            die_while_sending(PostgresLog, "_at_once", now)
        case "before-commit":
            around_log("append", before=die)
        case "after-commit-before-show":
            around_log("append", after=die)
        case "compaction-merging":
            before(compaction.Compactor, "_in_worker", die)
        case "compaction-before-checkpoint":
            around_log("add_checkpoint", before=die)
        case "compaction-before-prune":
            around_log("prune", before=die)
        case "compaction-after-prune":
            around_log("prune", after=die)
        case "while-loading":
            around_log("load", after=die)
        case "while-draining":
            before(hub.Hub, "drain", die)
        case _:
            raise SystemExit(f"no crash point is named {point}")


def break_at(kind: str, hits: int) -> None:
    """Let something fail once that never should."""
    now = Countdown(hits)

    def fail(error: BaseException) -> Callable[[], None]:
        def raise_it() -> None:
            if now():
                raise error

        return raise_it

    match kind:
        case "flusher-dies":
            around_log("append", before=fail(Panic("the flusher is hit")))
        case "append-raises":
            around_log("append", after=fail(RuntimeError("not an error anybody expects")))
        case "settle-raises":
            before(OpenDocument, "show", fail(RuntimeError("not an error anybody expects")))
        case "settle-panics":
            before(OpenDocument, "show", fail(Panic("the engine, while it merges")))
        case _:
            raise SystemExit(f"nothing is broken by {kind}")


# -- seams ---------------------------------------------------------------------------------------------------


def before(owner: Any, name: str, act: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **more: Any) -> Any:
        act()
        return original(*args, **more)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, act: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **more: Any) -> Any:
        result = original(*args, **more)
        act()
        return result

    setattr(owner, name, wrapped)


def die_while_sending(owner: Any, name: str, now: Countdown) -> None:
    """The statement is on its way to the database; whether it commits, nobody here will know."""
    original = getattr(owner, name)

    async def wrapped(*args: Any) -> Any:
        if not now():
            return await original(*args)
        sending = asyncio.ensure_future(original(*args))
        await asyncio.sleep(0.0005)
        del sending
        os._exit(EXIT_CODE)

    setattr(owner, name, wrapped)


def around_log(
    name: str, *, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
) -> None:
    """Act before and after each call of one method of the update log."""

    def wrap(log: Any) -> None:
        original: Callable[..., Awaitable[Any]] = getattr(log, name)

        async def wrapped(*args: Any, **more: Any) -> Any:
            before()
            result = await original(*args, **more)
            after()
            return result

        setattr(log, name, wrapped)

    each_log(wrap)


def each_log(wrap: Callable[[Any], None]) -> None:
    original = node.open_update_log

    def opened(*args: Any, **more: Any) -> Any:
        log = original(*args, **more)
        wrap(log)
        return log

    node.open_update_log = opened  # type: ignore[assignment]


def slow_commits(milliseconds: float) -> None:
    """As on a slow disk: what has been received stays uncommitted for this long."""

    def wrap(log: Any) -> None:
        original = log.append

        async def append(batches: Any) -> Any:
            await asyncio.sleep(milliseconds / 1000)
            return await original(batches)

        log.append = append

    each_log(wrap)


def failing_commits(every: int) -> None:
    """Every n-th append is refused by the storage, as under a lock that lasts too long."""
    calls = 0

    def wrap(log: Any) -> None:
        original = log.append

        async def append(batches: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls % every == 0:
                raise StorageUnavailable
            return await original(batches)

        log.append = append

    each_log(wrap)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--crash", choices=CRASH_POINTS)
    parser.add_argument("--break", dest="broken", choices=BREAKS)
    parser.add_argument("--hit", type=int, default=1)
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    parser.add_argument("--commit-ms", type=float, default=0)
    parser.add_argument("--fail-every", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="put everything in place once and serve nothing")
    options = parser.parse_args()
    if options.check:
        check()
        return
    if options.fail_every:
        failing_commits(options.fail_every)
    if options.commit_ms:
        slow_commits(options.commit_ms)
    if options.mutant:
        MUTANTS[options.mutant]()
    if options.crash:
        exit_at(options.crash, options.hit)
    if options.broken:
        break_at(options.broken, options.hit)
    assert Committer is hub.Committer
    sys.argv = ["collab-server", "serve"]
    command_line.main()


def check() -> None:
    """Every seam that the faults need is there. Raises where the code has moved on."""
    for point in CRASH_POINTS:
        exit_at(point, 1 << 30)
    for kind in BREAKS:
        break_at(kind, 1 << 30)
    for mutate in MUTANTS.values():
        mutate()


if __name__ == "__main__":
    main()
