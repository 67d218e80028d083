"""Hostile updates through the guard, the causal check and the engine, in child processes.

Three sources: honest updates damaged as bytes (flips, splices, huge numbers), honest updates damaged field by
field, and well-formed updates of random structs that point at anything. A child process applies whatever the
guard lets through to one document per session; its memory is bounded and a watchdog ends it when it hangs.

    python -m tests.fuzz.guard_fuzz 60          # seconds
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from collab_server.live.guard import (
    advance,
    fresh_clients,
    inspect_own_state,
    inspect_state_vector,
    inspect_update,
    missing,
)
from collab_server.live.structure import Structure
from schemas.errors import Malformed
from tests.fuzz import updates as u
from tests.fuzz.hostile import HostileSession, honest_updates

if TYPE_CHECKING:
    from pycrdt import Doc

SESSIONS_PER_CHILD = 500
MEMORY_BYTES = 3 << 30
SESSION_SECONDS = 10
Progress = Callable[[dict[str, float]], None]


class Finding(Exception):
    """Something the guard let through and should not have."""


def run_session(seed: int, counts: Counter[str]) -> dict[str, object]:
    """One document, some dozens of updates: what was accepted and what became of it. Raises ``Finding``."""
    from pycrdt import Doc

    random = Random(seed)
    doc: Doc = Doc()
    clocks: dict[int, int] = {}
    accepted: list[str] = []
    cut = False
    unordered = False  # a hostile struct names a right neighbour, which may not be right of where it begins
    honest = honest_updates()
    structure = Structure(doc.get_update)
    for update in HostileSession(random, clocks).updates():
        counts["frames"] += 1
        try:
            footprint = inspect_update(update)
            if missing(footprint, clocks):
                counts["not_ready"] += 1
                continue
            cut = structure.admit(footprint, clocks)
        except Malformed:
            counts["refused"] += 1
            continue
        counts["accepted"] += 1
        counts["fresh"] += bool(fresh_clients(footprint, clocks))
        if cut:
            counts["cut"] += 1  # the engine cannot be trusted from here on: such a document is bytes-only
            break
        try:
            doc.apply_update(update)
            accepted.append(update.hex())
            unordered = unordered or (update not in honest and any(row[6] >= 0 for row in footprint.rows))
            advance(footprint, clocks)
            _check(doc.get_state(), doc.get_update(), clocks, update)
        except Finding:
            raise
        except BaseException as error:
            raise Finding(f"{type(error).__name__}: {error} on {update.hex()}") from None
    state = doc.get_update().hex()
    if not cut:
        _delete_everything(doc, clocks)
    return {"seed": seed, "updates": accepted, "state": state, "unordered": unordered}


def _delete_everything(doc: "Doc", clocks: dict[int, int]) -> None:
    """In another document: what was left dangling shows when its surroundings go."""
    from pycrdt import Doc

    other: Doc = Doc()
    other.apply_update(doc.get_update())
    update = u.update(deletes=[u.deletions(client, (0, end)) for client, end in clocks.items()])
    for replica in (other, doc):
        state = replica.get_update()
        try:
            replica.apply_update(update)
            _check(replica.get_state(), replica.get_update(), clocks, update)
        except Finding:
            raise
        except BaseException as error:
            raise Finding(f"{type(error).__name__}: {error} when all is deleted of {state.hex()}") from None


def _check(state_vector: bytes, state: bytes, clocks: dict[int, int], update: bytes) -> None:
    """What the engine holds is exactly what was accepted, and its encoded form says so."""
    if inspect_state_vector(state_vector) != clocks:
        raise Finding(f"not applied: {update.hex()}")
    try:
        survey = inspect_own_state(state)
    except Malformed as error:
        raise Finding(f"unreadable state ({error.detail}) after {update.hex()}") from None
    if missing(survey, {}) or {client: end for client, (_, end) in survey.writes.items()} != clocks:
        raise Finding(f"incomplete state after {update.hex()}")


def child(first: int, count: int, report: Path) -> None:
    """Sessions ``first`` … in this process; the report holds the seed in work, so that a crash names it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    counts: Counter[str] = Counter()
    with report.open("w", buffering=1) as out:
        for seed in range(first, first + count):
            out.write(f"seed {seed}\n")
            signal.alarm(SESSION_SECONDS)
            try:
                run_session(seed, counts)
            except Finding as finding:
                out.write(f"finding {seed} {finding}\n")
            signal.alarm(0)
            if seed % 100 == 99:
                out.write(f"counts {json.dumps(counts)}\n")
                counts.clear()
        out.write(f"counts {json.dumps(counts)}\ndone\n")


def run(
    seconds: float = 60, *, first_seed: int = 0, progress: Progress | None = None, out: Path | None = None
) -> dict[str, float]:
    """Fuzz for about ``seconds``. The totals: frames, refused, not_ready, accepted, crashes, hangs, panics,
    accepted_but_unapplied. Every finding is a line in ``out``."""
    totals: Counter[str] = Counter(
        dict.fromkeys(("frames", "refused", "not_ready", "accepted", "fresh", "cut", "crashes", "hangs"), 0)
    )
    totals.update({"panics": 0, "accepted_but_unapplied": 0})
    started, seed = time.monotonic(), first_seed
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        while time.monotonic() - started < seconds:
            seed = _run_child(seed, report, totals, out)
            if progress is not None:
                progress(dict(totals))
    return dict(totals)


def _run_child(seed: int, report: Path, totals: Counter[str], out: Path | None) -> int:
    """One child; the seed after its last. A crash costs the session it was in, not the others."""
    command = [sys.executable, "-m", "tests.fuzz.guard_fuzz", "--child", str(seed), str(SESSIONS_PER_CHILD)]
    process = subprocess.run([*command, str(report)], capture_output=True, check=False)
    lines = report.read_text().splitlines()
    findings = [line for line in lines if line.startswith("finding")]
    for line in lines:
        if line.startswith("counts "):
            totals.update(json.loads(line[7:]))
    for finding in findings:
        unapplied = "not applied" in finding or " state" in finding
        totals["accepted_but_unapplied" if unapplied else "panics"] += 1
    last = int(next(line for line in reversed(lines) if line.startswith("seed ")).split()[1])
    if lines[-1] != "done":
        hung = process.returncode == -signal.SIGALRM
        totals["hangs" if hung else "crashes"] += 1
        findings.append(f"died {last} with {process.returncode}: {process.stderr.decode()[-300:]}")
    if out is not None and findings:
        with out.open("a") as file:
            file.writelines(finding + "\n" for finding in findings)
    return last + 1


def main() -> None:
    if sys.argv[1] == "--child":
        child(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        return
    if sys.argv[1] == "--record":  # one JSON per session, for the comparison with yjs
        for seed in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
            print(json.dumps(run_session(seed, Counter())))
        return
    seconds = float(sys.argv[1])
    first = int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(4)) * 1000
    out = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    print(run(seconds, first_seed=first, out=out, progress=lambda totals: print(totals, flush=True)))


if __name__ == "__main__":
    main()
