"""Hostile input, by the ten thousands: an error in one line or a correct result, never a traceback or a wrong number.

    python tests/robustness/fuzz/fuzz.py                               # 120,000 inputs over all targets
    python tests/robustness/fuzz/fuzz.py --inputs 20000 --only space   # one target
    python tests/robustness/fuzz/fuzz.py --only audio --seed 3 --input 4711      # one input again, with its traceback

Every input follows from the seed, its target and its number. What goes wrong is printed and kept below --keep, made
as small as it can be; the exit status is then 1.
"""

import argparse
import collections
import contextlib
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fuzz_bytes import Case

from sepsearch.utils.errors import UserError

# Target → its share of the inputs; each is a module `fuzz_<target>`.
SHARES = {"space": 24, "audio": 25, "folders": 3, "shards": 12, "journal": 43, "models": 8, "names": 1, "commands": 4}
CHUNK = 500  # inputs in one go
PATIENCE = 2.0  # seconds of the processor for one input
MEMORY = 3 * 2**30  # bytes that inputs may use beyond what the program itself does
LONGEST = 2_000  # characters of an error

Finding = tuple[str, int, str, Case]  # target, number of the input, what was wrong, the input


class Hang(BaseException):
    """An input took too long."""


_armed = False


def _on_alarm(number: int, frame: object) -> None:
    if _armed:
        raise Hang


def _arm(seconds: float) -> None:
    """Raise `Hang` after so much of the processor's time, or ten times as long asleep; 0 seconds: never."""
    global _armed
    _armed = seconds > 0
    for number, clock, most in (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, 10 * seconds),
    ):
        signal.signal(number, _on_alarm)
        signal.setitimer(clock, most)


def judge(target: Any, case: Case) -> tuple[str, str]:
    """("accepted" | "refused" | "wrong", what was wrong) for one input."""
    _arm(PATIENCE)
    try:
        return ("accepted" if target.check(case) else "refused"), ""
    except UserError as error:
        text = str(error)
        # What somebody typed may be told back as it is; what lies in a file must not reach the terminal.
        if not target.typed and (len(text) > LONGEST or not text.isprintable()):
            return "wrong", f"an error of {len(text)} characters that is no one line: {text[:200]!a}"
        return "refused", ""
    except (Exception, Hang) as error:
        place = traceback.extract_tb(error.__traceback__)
        where = next((f"{Path(p.filename).name}:{p.lineno}" for p in reversed(place) if "sepsearch" in p.filename), "")
        return "wrong", f"{type(error).__name__} at {where}: {ascii(str(error))[:200]}"
    finally:
        _arm(0)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory, where there is one; the process works in it, and its cache is there."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    before = Path.cwd()
    os.environ["SEPSEARCH_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


_open: dict[str, Any] = {}  # of this process: the target, and the folder it works in


def open_target(name: str) -> Any:
    """The target in this process, set up once."""
    if name not in _open:
        stack = contextlib.ExitStack()
        folder = stack.enter_context(scratch())
        _open[name] = importlib.import_module(f"fuzz_{name}").Target(folder), stack
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    return _open[name][0]


def close_targets() -> None:
    """Remove what the targets of this process have written."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while _open:
        _open.popitem()[1][1].close()


def make_case(target: Any, name: str, seed: int, number: int) -> Case:
    """The input of this seed, target and number."""
    return target.make(random.Random(f"{seed} {name} {number}"))


def fuzz(name: str, seed: int, begin: int, end: int) -> tuple[collections.Counter[str], float, list[Finding]]:
    """Judge the inputs from `begin` to `end`: how many of each kind, seconds, and what was wrong, made small."""
    target = open_target(name)
    counts: collections.Counter[str] = collections.Counter()
    findings: list[Finding] = []
    start = time.monotonic()
    for number in range(begin, end):
        case = make_case(target, name, seed, number)
        verdict, problem = judge(target, case)
        counts[verdict] += 1
        if verdict == "wrong" and len(findings) < 20:
            findings.append((name, number, problem, shrink(target, case, problem)))
    return counts, time.monotonic() - start, findings


def shrink(target: Any, case: Case, problem: str, tries: int = 300) -> Case:
    """The input without the parts that it needs not to go wrong in the same way."""
    kind = problem.split(":")[0]
    for name, data in list(case.items()):
        size = len(data or b"") // 2
        while data and size and tries > 0:
            for begin in range(0, len(data), size):
                tries -= 1
                smaller = data[:begin] + data[begin + size :]
                verdict, again = judge(target, {**case, name: smaller})
                if verdict == "wrong" and again.split(":")[0] == kind:
                    data = smaller
                    case = {**case, name: data}
                    break
                if tries <= 0:
                    break
            else:
                size //= 2
    return case


def show(name: str, counts: collections.Counter[str], seconds: float) -> None:
    """One line of the table."""
    total = counts.total()
    print(
        f"{name:10}{total:>9,}{counts['accepted']:>10,}{counts['refused']:>10,}{counts['wrong']:>7,}"
        f"{seconds:>9.1f}{total / max(seconds, 1e-9):>10,.0f}",
        flush=True,
    )


def tell(findings: list[Finding], folder: Path) -> None:
    """Keep what was found, and print one of every kind."""
    seen = set()
    for finding in findings:
        place = keep(folder, finding)
        if (kind := finding[2][:60]) not in seen:
            seen.add(kind)
            print(f"    {finding[0]} {finding[1]}: {finding[2][:300]}\n        {place}", flush=True)


def keep(folder: Path, finding: Finding) -> Path:
    """Write a finding's files into a folder of its own."""
    name, number, _, case = finding
    place = folder / f"{name}-{number}"
    place.mkdir(parents=True, exist_ok=True)
    for file, data in case.items():
        if data is not None:
            (place / file).write_bytes(data)
    return place


def fuzz_all(shares: dict[str, int], seed: int, processes: int, folder: Path) -> collections.Counter[str]:
    """Judge so many inputs of every target, print the table, keep what was wrong; returns the totals."""
    print(f"{'target':10}{'inputs':>9}{'accepted':>10}{'refused':>10}{'wrong':>7}{'seconds':>9}{'a second':>10}")
    total: collections.Counter[str] = collections.Counter()
    seconds = 0.0
    for name, inputs in shares.items():
        counts: collections.Counter[str] = collections.Counter()
        findings: list[Finding] = []
        spent = 0.0
        begins = range(0, inputs, CHUNK)
        with ProcessPoolExecutor(processes, get_context("spawn"), max_tasks_per_child=None) as pool:
            jobs = [pool.submit(fuzz, name, seed, begin, min(begin + CHUNK, inputs)) for begin in begins]
            for begin, job in zip(begins, jobs, strict=True):
                try:
                    part, took, found = job.result()
                except BrokenProcessPool:
                    part, took = collections.Counter(wrong=1), 0.0
                    found = [(name, begin, f"the process died among the {CHUNK} inputs from here, or elsewhere", {})]
                counts += part
                spent += took
                findings += found
            for _ in range(processes):
                with contextlib.suppress(BrokenProcessPool):
                    pool.submit(close_targets)
        show(name, counts, spent)
        tell(findings, folder)
        total += counts
        seconds += spent
    show("all", total, seconds)
    return total


def read_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="fuzz.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=120_000, help="in all (default: 120000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=SHARES, help="one target; all by default")
    parser.add_argument("--input", type=int, help="with --only: this input alone, and its traceback")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="(default: at most 2)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for what was found")
    options = parser.parse_args(arguments)
    if options.inputs < 1 or options.processes < 1 or (options.input is not None and not options.only):
        parser.error("--inputs and --processes must be 1 or more; --input needs --only")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; the exit status is 1 if anything was found."""
    options = read_arguments(arguments)
    if options.input is not None:
        target = open_target(options.only)
        try:
            case = make_case(target, options.only, options.seed, options.input)
            print({name: data if data is None else data[:2000] for name, data in case.items()})
            print(target.check(case))
        finally:
            close_targets()
        return 0
    shares = {options.only: SHARES[options.only]} if options.only else SHARES
    inputs = {name: max(1, options.inputs * share // sum(shares.values())) for name, share in shares.items()}
    begin = time.monotonic()
    total = fuzz_all(inputs, options.seed, options.processes, options.keep)
    print(f"{total.total():,} inputs of seed {options.seed} in {time.monotonic() - begin:.0f} s, "
          f"{options.processes} processes: {total['wrong']:,} went wrong")  # fmt: skip
    return 1 if total["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
