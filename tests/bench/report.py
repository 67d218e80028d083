"""Figures of all runs: medians, ratios of one run, a table to read and a flat JSON to compare."""

import json
import statistics
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from tests.bench.contenders import Contender
from tests.bench.typing_to_many import Figures

Cell = tuple[str, str, int]  # phase ("paced", "saturated"), contender, receivers
BUSY_GENERATOR = 0.85
RATIOS = (
    ("ours", "y-websocket-server"),
    ("ours", "y-websocket-leveldb"),
    ("ours", "hocuspocus"),
    ("ours-hocuspocus", "hocuspocus"),
    ("ours-hocuspocus", "y-websocket-server"),
)


def percentile(latencies: array, share: float) -> float:
    """Milliseconds."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")


@dataclass(frozen=True)
class Row:
    """The medians of a cell's repeats."""

    cpu_per_update: float  # microseconds
    cpu_per_delivery: float
    p50: float  # milliseconds
    p99: float
    rate: float  # updates a second
    frames_per_update: float
    generator_share: float

    @classmethod
    def of(cls, runs: Sequence[Figures], receivers: int) -> "Row":
        def median(values: list[float]) -> float:
            return statistics.median(values)

        per_update = median([run.cpu_seconds / run.updates * 1e6 for run in runs])
        return cls(
            per_update,
            per_update / receivers,
            median([percentile(run.latencies, 0.50) for run in runs]),
            median([percentile(run.latencies, 0.99) for run in runs]),
            median([run.updates / run.seconds for run in runs]),
            median([run.frames / run.updates / receivers for run in runs]),
            median([run.generator_share for run in runs]),
        )


class Results:
    """All figures of one run of the benchmark."""

    def __init__(self) -> None:
        self._runs: dict[Cell, list[Figures]] = defaultdict(list)
        self.failures = 0
        self.printed: list[Table] = []
        self.page = ""

    def add(self, phase: str, contender: str, receivers: int, figures: Figures) -> None:
        self._runs[phase, contender, receivers].append(figures)

    def rows(self) -> dict[Cell, Row]:
        return {cell: Row.of(runs, cell[2]) for cell, runs in self._runs.items()}

    def ratios(self) -> dict[str, float]:
        """Ours to theirs in the same repeat, and the median of that: what slows the machine slows both."""
        found: dict[str, float] = {}
        for (phase, name, receivers), runs in self._runs.items():
            for ours, theirs in RATIOS:
                others = self._runs.get((phase, theirs, receivers))
                if name != ours or others is None:
                    continue
                pairs = [
                    (a.cpu_seconds / a.updates) / (b.cpu_seconds / b.updates)
                    for a, b in zip(runs, others, strict=False)
                ]
                if pairs:
                    found[f"s1.{phase}.{receivers}.{ours}/{theirs}.cpu"] = statistics.median(pairs)
        return found

    def flat(self) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for (phase, contender, receivers), row in self.rows().items():
            name = f"s1.{phase}.{receivers}.{contender}"
            numbers[f"{name}.cpu_us_per_update"] = row.cpu_per_update
            numbers[f"{name}.cpu_us_per_delivery"] = row.cpu_per_delivery
            numbers[f"{name}.p50_ms"] = row.p50
            numbers[f"{name}.p99_ms"] = row.p99
            numbers[f"{name}.updates_per_second"] = row.rate
            numbers[f"{name}.frames_per_update"] = row.frames_per_update
            numbers[f"{name}.generator_share"] = row.generator_share
        return numbers | self.ratios()


COLUMNS = (
    "N",
    "server",
    "CPU µs/update",
    "µs/delivery",
    "p50 ms",
    "p99 ms",
    "updates/s",
    "frames/update",
    "ours/it",
)
PHASES = (("paced", "50 keystrokes/s"), ("saturated", "as fast as the server takes them"))


def lines(results: Results, contenders: Sequence[Contender], phase: str) -> list[tuple[str, ...]]:
    """The cells of one table under ``COLUMNS``."""
    rows = results.rows()
    found = []
    for receivers in sorted({cell[2] for cell in rows}):
        for contender in contenders:
            row = rows.get((phase, contender.name, receivers))
            if row is not None:
                ratio = _ratio(results, phase, contender, receivers)
                found.append((str(receivers), contender.title, *_figures(row), ratio))
    return found


def tables(results: Results, contenders: Sequence[Contender]) -> list[Table]:
    made = []
    for phase, title in PHASES:
        table = Table(*COLUMNS, title=f"S1: one writer, N receivers, {title}")
        before = ""
        for line in lines(results, contenders, phase):
            if before and line[0] != before:
                table.add_section()
            table.add_row(*line)
            before = line[0]
        made.append(table)
    held = Table("server", "an update that others can see is", title="Durability, each by default")
    for contender in contenders:
        held.add_row(contender.title, contender.durability)
    return [*made, held]


def markdown(results: Results, contenders: Sequence[Contender]) -> str:
    """The same tables for a page."""
    text = ""
    for phase, title in PHASES:
        text += f"**S1, {title}**\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
        text += "".join(f"| {' | '.join(line)} |\n" for line in lines(results, contenders, phase)) + "\n"
    return text


def _figures(row: Row) -> list[str]:
    busy = " !" if row.generator_share > BUSY_GENERATOR else ""  # the generator was the bottleneck
    return [
        f"{row.cpu_per_update:,.0f}",
        f"{row.cpu_per_delivery:.2f}",
        f"{row.p50:.1f}",
        f"{row.p99:.1f}{busy}",
        f"{row.rate:,.0f}",
        f"{row.frames_per_update:.3f}",
    ]


def _ratio(results: Results, phase: str, contender: Contender, receivers: int) -> str:
    same = "ours-hocuspocus" if contender.name == "hocuspocus" else "ours"
    found = results.ratios()
    for ours in (same, "ours"):
        ratio = found.get(f"s1.{phase}.{receivers}.{ours}/{contender.name}.cpu")
        if ratio is not None:
            return f"{ratio:.2f}"
    return ""


def save(numbers: dict[str, float], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = {name: round(number, 4) for name, number in sorted(numbers.items())}
    path.write_text(json.dumps(rounded, indent=1) + "\n")
