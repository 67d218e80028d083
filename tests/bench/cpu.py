"""CPU time of a process with all its threads and children, from the OS; and on which core things run."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil


def cpu_seconds(pid: int) -> float:
    """Since the process began. Nanoseconds of each task where the kernel keeps them, else ticks of 10 ms."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(_precise(member.pid) or _ticks(member) for member in family)


def _precise(pid: int) -> float:
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return total / 1e9


def _ticks(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def two_cores() -> tuple[int, int]:
    """One for the servers, one for the generator; the same one twice where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1], cores[0]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started inside runs on ``core`` for all its life: a process inherits this."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
