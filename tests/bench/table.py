"""Tables of results, on the terminal and fit for `docs/benchmarks.md`, with what they were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from attrs import define, field


@define
class Table:
    """One table in the making."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(factory=list)

    def add(self, *cells: object) -> None:
        self.rows.append([cell if isinstance(cell, str) else show(cell) for cell in cells])

    def print(self) -> None:
        tell_conditions()
        print(self)

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]
        texts = [self._line(line, widths) for line in lines]
        texts.insert(
            1, "|".join(["", *("-" * (width + 1) + ("-" if not n else ":") for n, width in enumerate(widths)), ""])
        )
        return "\n".join([f"\n### {self.title}\n", *texts, ""])

    @staticmethod
    def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = [
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"


@cache
def tell_conditions() -> None:
    """Before the first table of a run."""
    print(f"\n{conditions()}")


def show(value: object) -> str:
    """A number with three digits that say something."""
    if not isinstance(value, int | float):
        return str(value)
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def conditions() -> str:
    """What the figures were measured on, in a line."""
    revision = _ask("git", "rev-parse", "--short", "HEAD")
    changed = "" if not _ask("git", "status", "--porcelain", "--untracked-files=no") else " with changes"
    return (
        f"Revision {revision or 'unknown'}{changed}; Python {platform.python_version()}, SQLite"
        f" {sqlite3.sqlite_version}; {_processor()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip()
