"""``python -m tests.bench``: CPU per update beside the Node servers, and our write path taken apart.

Everything on 127.0.0.1: the servers on one core, the generator on another. ``docs/performance.md`` says what
the figures mean.
"""

import argparse
import gc
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench import write_path
from tests.bench.contenders import DEFAULT, NAMES, contenders
from tests.bench.cpu import two_cores
from tests.bench.keystrokes import Session, record, recorded, typed
from tests.bench.report import Results, markdown, save, tables
from tests.bench.typing_to_many import Incomplete, Run

REPORTS = Path("build") / "reports"
KEYSTROKES = 40_000
out = Console(width=None if sys.stdout.isatty() else 132)


def main() -> None:
    options = _options()
    logging.getLogger("persistence").setLevel(logging.ERROR)  # the SQLite in use is told about elsewhere
    session = record(recorded(options.trace) if options.trace else typed(), KEYSTROKES)
    numbers: dict[str, float] = {}
    started = time.monotonic()
    with _progress() as progress:
        if "write-path" in options.only:
            numbers |= write_path.measure(session, progress, rounds=3 if options.quick else 7)
        results = Results()
        if "s1" in options.only:
            uvloop.run(_typing_to_many(options, session, results, progress))
    numbers |= results.flat()
    for table in write_path.tables(numbers):
        out.print(table)
    for table in results.printed:
        out.print(table)
    target = REPORTS / "bench.json"
    save(numbers, target)
    target.with_suffix(".md").write_text(results.page)
    out.print(f"{len(numbers)} figures in {target}; {time.monotonic() - started:.0f} s.")
    if results.failures:
        sys.exit(f"{results.failures} runs were not complete: their figures are missing.")


async def _typing_to_many(
    options: argparse.Namespace, session: Session, results: Results, progress: Progress
) -> None:
    servers, generator = two_cores()
    os.sched_setaffinity(0, {generator})
    seconds = 2.0 if options.quick else 3.0
    total = options.repeats * len(options.receivers) * len(options.servers)
    task = progress.add_task("S1: one writer, many receivers", total=total)
    with tempfile.TemporaryDirectory(prefix="collab-bench-") as folder:
        async with contenders(options.servers, servers, Path(folder)) as compared:
            for repeat in range(options.repeats):
                for receivers in options.receivers:
                    for contender in compared if repeat % 2 == 0 else reversed(compared):
                        doing = f"S1: {contender.title}, {receivers} receivers, round {repeat + 1}"
                        progress.update(task, description=doing)
                        run = Run(contender, session, receivers)
                        try:
                            await run.open()
                            paced = await run.paced(int(seconds * 50))
                            saturated = await run.saturated(seconds / 3)
                            run.verify()
                        except (Incomplete, TimeoutError) as error:
                            out.print(f"[red]{contender.title} with {receivers} receivers: {error}")
                            results.failures += 1
                        else:
                            results.add("paced", contender.name, receivers, paced)
                            results.add("saturated", contender.name, receivers, saturated)
                        finally:
                            await run.close()
                            gc.collect()  # the generator's own garbage, outside of what is measured
                        progress.advance(task)
            results.printed = tables(results, compared)
            results.page = markdown(results, compared)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about 40 seconds, coarse")
    parser.add_argument("--only", nargs="+", choices=("write-path", "s1"), default=("write-path", "s1"))
    parser.add_argument("--servers", nargs="+", choices=NAMES, default=list(DEFAULT))
    parser.add_argument("--receivers", nargs="+", type=int, metavar="N")
    parser.add_argument("--repeats", type=int, help="medians are taken over these")
    parser.add_argument("--trace", type=Path, help="a recorded session (.json.gz) instead of made-up keystrokes")
    options = parser.parse_args()
    options.receivers = options.receivers or ([10, 100] if options.quick else [10, 100, 300])
    options.repeats = options.repeats or (1 if options.quick else 3)
    return options


if __name__ == "__main__":
    main()
