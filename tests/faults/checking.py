"""The checker checked: servers with a bug put in, each of which must be found."""

import asyncio

from tests.faults.campaign import Note, campaign
from tests.faults.ledger import ZERO
from tests.faults.mutants import MUTANTS

TRIES = 5  # kills a mutant may survive before it counts as missed

# What a bug needs to be visible: a disk slow enough that something is always uncommitted, commits that fail.
SLOW = ("--commit-ms", "60")
FLAGS = {
    "swallow-failed-commit": ("--fail-every", "7"),
    "show-one-of-many": ("--commit-ms", "150"),
    "compact-without-the-last": (),
}
LIFE_SECONDS = {"compact-without-the-last": 8.0}  # the worker has to start first


async def finds(mutant: str, seed: int, database: str = "sqlite") -> dict[str, int]:
    """The figures of a run against ``mutant`` that should be 0 and are not; empty when it was not found."""
    flags = ("--mutant", mutant, *FLAGS.get(mutant, SLOW))
    async with campaign(database, seed, lambda _: None, *flags, per_second=30) as faults:
        for number in range(TRIES):
            await asyncio.sleep(LIFE_SECONDS.get(mutant, 1.0))
            if number % 2:
                await faults.workload.rest()
            else:
                await faults.kill(*flags)
            found = {name: value for name, value in faults.ledger.figures().items() if name in ZERO and value}
            if found:
                return found
    return {}


async def check_all(seed: int, note: Note) -> dict[str, int]:
    """Run every mutant."""
    missed = []
    for mutant in sorted(MUTANTS):
        found = await finds(mutant, seed)
        shown = ", ".join(f"{name} {value}" for name, value in found.items())
        note(f"mutant {mutant}: {shown or 'NOT FOUND'}")
        if not found:
            missed.append(mutant)
    return {
        "mutants_total": len(MUTANTS),
        "mutants_found": len(MUTANTS) - len(missed),
        "mutants_missed": len(missed),
    }
