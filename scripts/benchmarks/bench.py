"""The benchmarks: sepsearch beside what it replaces, measured side by side in one run.

    python scripts/benchmarks/bench.py  # all parts; prints the table and writes docs/benchmarks.md
    python scripts/benchmarks/bench.py prepare trials  # some parts; prints the table
    python scripts/benchmarks/bench.py fit --device cuda --batch 32 256 --members 1 13  # needs torch and numpy alone

Parts: prepare, trials, memory, prefetch, fit, stopped_values, warm_start, early_stopping, separate. Each runs in a
process of its own. What takes too long to be one of them has a command of its own (bench_kills.py,
bench_stopped_values.py real, crash_points.py, fuzz.py); its figures stand at the end of the page, which is left as
it is.
"""

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path

from bench_table import Part, Settings, machine, page, show

PARTS = (
    "prepare",
    "trials",
    "trial_overhead",
    "memory",
    "worker_memory",
    "prefetch",
    "fit",
    "stopped_values",
    "warm_start",
    "early_stopping",
    "separate",
)
APART = "\n# Measured apart\n"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def measure(name: str, settings: Settings) -> Part:
    """Measure one part; its module, and whatever that needs, is imported here and not before."""
    return import_module(f"bench_{name}").measure(settings)


def measure_apart(name: str, settings: Settings) -> Part:
    """The same in a fresh process: no part sees another's threads, environment, caches or Ray."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, name, settings).result()


def read_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--repeats", type=int, help="repeats of every part, at least 1 (default: its own number)")
    parser.add_argument("--device", default="cpu", help="torch device of fit (default: cpu)")
    parser.add_argument("--batch", type=int, nargs="+", default=[32], help="batch sizes of fit")
    parser.add_argument("--members", type=int, nargs="+", default=[2], help="networks trained at once by fit")
    parser.add_argument("--output", type=Path, help="page to write (default: docs/benchmarks.md if all parts are run)")
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}, expected some of {', '.join(PARTS)}")
    if min([*options.batch, *options.members, options.repeats or 1]) < 1 or options.repeats == 0:
        parser.error("--repeats, --batch and --members must be 1 or more")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; the exit status is 0 whether or not the aims are met."""
    options = read_arguments(arguments)
    names = [part for part in PARTS if part in options.parts] or list(PARTS)
    settings = Settings(options.repeats, options.device, tuple(options.batch), tuple(options.members))
    facts = machine()
    if options.repeats:
        facts["repeats"] = f"{options.repeats} of every part, not the number given below"
    parts = []
    for name in names:
        begin = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        parts.append(measure_apart(name, settings))
        print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    show(parts, facts)
    target = options.output or (PAGE if names == list(PARTS) else None)
    if target is not None:
        before = target.read_text(encoding="utf-8") if target.exists() else ""
        kept = APART + before.partition(APART)[2] if APART in before else ""
        target.write_text(page(parts, facts) + kept, encoding="utf-8")
        print(f"written: {target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
