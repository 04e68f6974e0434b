"""What the benchmarks measure, as figures with their spread; as a table on the screen and as a page."""

import datetime
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

PACKAGES = ("torch", "ray", "numpy", "pyarrow", "librosa", "soundfile", "psutil")
BUSY = 0.5  # processes that want to run, from which on the machine is not quiet
HEADER = ("figure", "sepsearch", "beside it", "ratio", "aim", "met")
INTRODUCTION = """\
Every line compares sepsearch with something else that does the same work, **measured in the same run on the same
machine**, repeat by repeat in turn. Ratios travel between machines better than the figures themselves do.

`make bench` (`python scripts/benchmarks/bench.py`) measures all of it and writes this page;
`python scripts/benchmarks/bench.py fit memory` measures parts of it and prints them.

Cells hold *median (minimum–maximum)* over the repeats. A ratio says how many times better sepsearch does: the ratio of
the medians, with the spread of the ratios of the single repeats.
"""


@dataclass(frozen=True)
class Settings:
    """How to measure. `repeats` None leaves every part its own number; device, batches, members: of fit."""

    repeats: int | None = None
    device: str = "cpu"
    batches: tuple[int, ...] = (32,)
    members: tuple[int, ...] = (2,)


@dataclass(frozen=True)
class Figure:
    """One quantity, sepsearch's beside another's; one value per repeat, in pairs.

    `more_is_better` decides which way the ratio goes; an aim is at least a ratio, or at most a value of sepsearch's.
    """

    name: str
    unit: str
    ours: list[float]
    other: list[float]
    beside: str
    more_is_better: bool
    least_ratio: float | None = None
    most_ours: float | None = None
    digits: int = 2

    def _ratio(self, ours: float, other: float) -> float:
        # A cost can come out at or below 0 where it is below the clock's noise.
        return ours / other if self.more_is_better else other / max(ours, 1e-9)

    @property
    def ratio(self) -> float:
        """How many times better sepsearch does, by the medians."""
        return self._ratio(median(self.ours), median(self.other))

    @property
    def ratios(self) -> list[float]:
        """The same, repeat by repeat."""
        return [self._ratio(ours, other) for ours, other in zip(self.ours, self.other, strict=True)]

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None where there is none."""
        if self.least_ratio is not None:
            return self.ratio >= self.least_ratio
        return median(self.ours) <= self.most_ours if self.most_ours is not None else None

    def cells(self) -> tuple[str, ...]:
        """One row of the table, as in `HEADER`."""
        aim = ""
        if self.least_ratio is not None:
            aim = f"ratio ≥ {self.least_ratio:g}"
        elif self.most_ours is not None:
            aim = f"≤ {self.most_ours:g} {self.unit}"
        return (
            f"{self.name}, {self.unit}",
            _spread(self.ours, self.digits),
            f"{_spread(self.other, self.digits)} {self.beside}",
            f"{self.ratio:.2f}× ({min(self.ratios):.2f}–{max(self.ratios):.2f})",
            aim,
            {True: "yes", False: "**no**", None: ""}[self.met],
        )


@dataclass(frozen=True)
class Part:
    """One part of the benchmarks: its figures, how they were measured, and what else there is to say."""

    name: str
    how: str
    figures: list[Figure]
    notes: list[str] = field(default_factory=list)


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def clock(device: str) -> float:
    """Seconds: of this process's CPU where it computes in one thread (other processes disturb that less), else wall."""
    return time.process_time() if device == "cpu" else time.perf_counter()


def machine() -> dict[str, str]:
    """The machine in words; neither its name nor a path."""
    facts = {"date": datetime.date.today().isoformat(), "processor": _processor(), "cores": str(os.cpu_count() or 1)}
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        facts["memory"] = f"{memory / 2**30:.0f} GiB"
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        warning = ": **other work ran at the same time, so take these figures as rough**" if load > BUSY else ""
        facts["load before"] = f"{load:.1f} processes, mean of a minute{warning}"
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue  # a GPU box needs no more than torch and numpy
    return facts | {"versions": ", ".join(versions)}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def show(parts: Sequence[Part], facts: dict[str, str]) -> None:
    """Print all figures as one table, with rich where it is installed."""
    rows = [figure.cells() for part in parts for figure in part.figures]
    print("\n".join(f"{name}: {value}" for name, value in facts.items()).replace("**", ""))
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(len(row[i]) for row in [HEADER, *rows]) for i in range(len(HEADER))]
        for row in [HEADER, *rows]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        table = Table(*HEADER)
        for row in rows:
            table.add_row(*(cell.replace("**", "") for cell in row))
        Console(width=160).print(table)
    for part in parts:
        for note in part.notes:
            print(f"{part.name}: {note}")


def page(parts: Sequence[Part], facts: dict[str, str]) -> str:
    """The page of all parts, Markdown."""
    lines = ["# Benchmarks", "", INTRODUCTION]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", _markdown_row(HEADER), _markdown_row(["---"] * len(HEADER))]
    lines += [_markdown_row(figure.cells()) for part in parts for figure in part.figures]
    for part in parts:
        lines += ["", f"## {part.name}", "", part.how.strip()]
        lines += ["", *(f"- {note}" for note in part.notes)] if part.notes else []
    return "\n".join(lines) + "\n"


def replace_section(page: Path, name: str, text: str) -> None:
    """Put a section into a page of benchmarks, in place of what it said there before."""
    before = page.read_text(encoding="utf-8") if page.exists() else "# Benchmarks\n"
    rest = re.sub(rf"\n## {name}\n.*?(?=\n## |\Z)", "", before, flags=re.DOTALL)
    page.write_text(f"{rest.rstrip()}\n\n## {name}\n\n{text.strip()}\n", encoding="utf-8")


def write_section(page: Path, part: Part, facts: Mapping[str, str]) -> None:
    """Put a part into a page of benchmarks as a section, without a table of its figures."""
    notes = [*part.notes, "; ".join(f"{name}: {value}" for name, value in facts.items())]
    replace_section(page, part.name, "\n".join([part.how.strip(), "", *(f"- {note}" for note in notes)]))


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
