"""``make fuzz``: hostile updates through the guard, then hostile frames over real sockets.

python -m tests.fuzz --frames 100000 --guard-seconds 60 --seed 7
"""

import argparse
import sys
from collections.abc import Mapping
from random import SystemRandom

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults.ledger import ZERO
from tests.fuzz import guard_fuzz, socket_fuzz
from tests.reports import REPORTS, Number, publish

GUARD_SECONDS = 60.0
GUARD_ZERO = ("crashes", "hangs", "panics", "accepted_but_unapplied")
SOCKET_ZERO = ("crashes", "hangs", "wrong_codes", "errors_logged", "refused_but_present")
MAX_GROWTH_MIB = 64


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=socket_fuzz.FRAMES, help="over sockets")
    parser.add_argument("--guard-seconds", type=float, default=GUARD_SECONDS)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6))
    options = parser.parse_args()
    console = Console()
    REPORTS.mkdir(parents=True, exist_ok=True)
    findings_file = REPORTS / "fuzz-findings.txt"
    findings_file.unlink(missing_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        sockets = progress.add_task("frames over sockets", total=options.frames)
        guard = progress.add_task("updates through the guard", total=None)

        def at_sockets(totals: Mapping[str, float]) -> None:
            progress.update(sockets, completed=min(int(totals.get("frames", 0)), options.frames))

        def at_guard(totals: Mapping[str, float]) -> None:
            progress.update(guard, completed=int(totals.get("frames", 0)))

        frames, findings = socket_fuzz.run(options.frames, seed=options.seed, progress=at_sockets)
        at_sockets({"frames": options.frames})
        updates = guard_fuzz.run(
            options.guard_seconds, first_seed=options.seed * 1000, progress=at_guard, out=findings_file
        )
    for finding in findings[:20]:
        console.print(finding, highlight=False, markup=False)
    if findings:
        with findings_file.open("a") as file:
            file.writelines(finding + "\n" for finding in findings)
    figures: dict[str, Number] = {"seed": options.seed, **frames}
    figures["rss_growth_above_limit_mib"] = max(0, int(frames["rss_growth_mib"]) - MAX_GROWTH_MIB)
    figures |= {f"guard_{name}": value for name, value in updates.items()}
    zero = {*SOCKET_ZERO, "rss_growth_above_limit_mib"}
    zero |= {f"innocent_{name}" for name in ZERO} | {f"guard_{name}" for name in GUARD_ZERO}
    sys.exit(0 if publish("fuzz", figures, title="Fuzzing", zero=zero, out=console) else 1)


if __name__ == "__main__":
    main()
