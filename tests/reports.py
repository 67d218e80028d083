"""Figures of a long run: a flat JSON file for machines, a table for people.

publish("faults", {"kills": 40, "acked_lost": 0}, title="Faults", zero={"acked_lost"})
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

Number = int | float
REPORTS = Path(__file__).parent.parent / "build" / "reports"


def write(name: str, figures: Mapping[str, Number]) -> Path:
    """Write ``build/reports/<name>.json``, flat: figure -> number."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"{name}.json"
    path.write_text(json.dumps(dict(figures), indent=2) + "\n")
    return path


def publish(
    name: str,
    figures: Mapping[str, Number],
    *,
    title: str,
    zero: Collection[str] = (),
    out: Console | None = None,
) -> bool:
    """Write the report and print it; ``zero`` are the figures that must be 0. Returns whether all are."""
    path = write(name, figures)
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("")
    for figure, value in figures.items():
        verdict = ""
        if figure in zero:
            verdict = "[red]must be 0[/]" if value else "[green]✓[/]"
        table.add_row(figure, _shown(value), verdict)
    console = out or Console()
    console.print(table)
    console.print(f"Report: {path.relative_to(REPORTS.parent.parent)}")
    return all(figures.get(figure, 0) == 0 for figure in zero)


def percentile(values: Collection[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of them do not exceed; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _shown(value: Number) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
