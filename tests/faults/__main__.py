"""``make faults``: kill the server at random moments and at named points, break its storage, and look for
lost updates; then put bugs into it and see that they are found.

    python -m tests.faults --kills 40 --only sqlite --seed 7
"""

import argparse
import asyncio
import sys
import time
from random import SystemRandom

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults.campaign import Note, campaign
from tests.faults.checking import check_all
from tests.faults.crashing_server import BREAKS, CRASH_POINTS
from tests.faults.ledger import ZERO
from tests.faults.mutants import MUTANTS
from tests.reports import Number, publish

KILLS = 40
STORAGE_FAULTS = {"sqlite": 3, "postgres": 4}


async def on_database(database: str, kills: int, seed: int, note: Note) -> dict[str, Number]:
    started = time.monotonic()
    async with campaign(database, seed, note) as faults:
        await faults.kills_at_random(kills)
        await faults.crash_points()
        await faults.break_something()
        await faults.storage_faults()
        figures: dict[str, Number] = faults.figures()
    return {**figures, "seconds": round(time.monotonic() - started, 1)}


async def run(options: argparse.Namespace, console: Console) -> dict[str, Number]:
    databases = [options.only] if options.only else ["sqlite", "postgres"]
    steps = sum(options.kills + len(CRASH_POINTS) + len(BREAKS) + STORAGE_FAULTS[name] for name in databases)
    steps += len(MUTANTS) if options.mutants else 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    totals: dict[str, Number] = {"seed": options.seed}
    each: dict[str, Number] = {}
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("starting", total=steps)
        for database in databases:
            note = _note(progress, bar, database)
            for name, value in (await on_database(database, options.kills, options.seed, note)).items():
                each[f"{database}_{name}"] = value
                if not name.startswith("t_"):
                    totals[name] = round(totals.get(name, 0) + value, 1)
                elif name.endswith("_max"):
                    totals[name] = max(totals.get(name, 0), value)
        if options.mutants:
            totals |= await check_all(options.seed, _note(progress, bar, "checker"))
    return totals | each


def _note(progress: Progress, bar, database: str) -> Note:
    def note(what: str) -> None:
        progress.update(bar, advance=1, description=f"{database}: {what}")
        if not progress.console.is_terminal:
            print(f"{database}: {what}", flush=True)
        elif "mutant" in what or "never" in what:
            progress.console.print(what)

    return note


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="random ones, on each database")
    parser.add_argument("--only", choices=tuple(STORAGE_FAULTS))
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6))
    parser.add_argument("--no-mutants", dest="mutants", action="store_false")
    options = parser.parse_args()
    console = Console()
    figures = asyncio.run(run(options, console))
    zero = [name for name in figures if name.endswith((*ZERO, "mutants_missed"))]
    sys.exit(0 if publish("faults", figures, title="Faults", zero=zero, out=console) else 1)


if __name__ == "__main__":
    main()
