"""Hostile input, drawn and made small by Hypothesis: one line of error or a correct result, never a traceback.

    python tests/robustness/fuzz/fuzz.py                               # 20,000 inputs over all targets
    python tests/robustness/fuzz/fuzz.py --inputs 100000 --only space  # one target
    python tests/robustness/fuzz/fuzz.py --seed 3                      # other inputs

What goes wrong is printed and kept below --keep, made as small as it can be, and tried first the next time; the exit
status is then 1.
"""

import argparse
import collections
import contextlib
import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from damages import Case, Wrong
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from sepsearch.utils.errors import UserError

# Target → its share of the inputs; each is a module `fuzz_<target>`.
SHARES = {"space": 24, "audio": 25, "folders": 3, "shards": 12, "journal": 43, "models": 8, "names": 1, "commands": 4}
PATIENCE = 2.0  # seconds of the processor for one input
MEMORY = 3 * 2**30  # bytes that inputs may use beyond what the program itself does
LONGEST = 10_000  # characters of an error, which may name two paths of the longest


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


def judge(target: Any, case: Case) -> str:
    """ "accepted" or "refused" for one input; raises what went wrong otherwise."""
    _arm(PATIENCE)
    try:
        return "accepted" if target.check(case) else "refused"
    except UserError as error:
        text = str(error)
        # What somebody typed may be repeated as it is; what lies in a file must not reach the terminal.
        if not target.typed and (len(text) > LONGEST or not text.isprintable()):
            raise Wrong(f"an error of {len(text)} characters that is no one line: {text[:200]!a}") from error
        return "refused"
    except Hang as error:
        raise Wrong("hang: it took too long") from error
    finally:
        _arm(0)


@contextlib.contextmanager
def open_target(name: str) -> Iterator[Any]:
    """A target that works in a folder in memory, where there is one, with the memory of the process limited."""
    memory, before = Path("/dev/shm"), Path.cwd()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    os.environ["SEPSEARCH_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    try:
        target = importlib.import_module(f"fuzz_{name}").Target(folder)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        yield target
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


def check_inputs(target: Any, options: settings, number: int = 0) -> tuple[collections.Counter[str], dict[str, Case]]:
    """Judge inputs of a target: verdicts by kind, and the smallest input of everything that went wrong, by problem."""
    counts: collections.Counter[str] = collections.Counter()
    problems: dict[tuple[Any, ...], tuple[str, Case]] = {}  # by type and place; the last one is the smallest

    @settings(options, database=options.database, deadline=None, suppress_health_check=list(HealthCheck))
    @seed(number)  # which turns the database off, but for the settings after it
    @given(target.cases())
    def check(case: Case) -> None:
        try:
            counts[judge(target, case)] += 1
        except Exception as error:
            own = [place for place in traceback.extract_tb(error.__traceback__) if "sepsearch" in place.filename]
            where = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
            text = f"{type(error).__name__}{where}: {ascii(str(error))[:300]}"
            problems[type(error), where] = text, case
            raise

    with contextlib.suppress(Exception):  # it is among the problems
        check()
    return counts, dict(problems.values())


def fuzz(name: str, inputs: int, number: int, folder: Path) -> int:
    """Judge the inputs of one target, print a line of the table, keep what was wrong; how many problems there are."""
    start, folder = time.monotonic(), folder.resolve()
    with open_target(name) as target:
        examples = DirectoryBasedExampleDatabase(folder / "examples" / name)
        counts, problems = check_inputs(target, settings(max_examples=inputs, database=examples), number)
    total, seconds = counts.total(), time.monotonic() - start
    print(f"{name:10}{total:>9,}{counts['accepted']:>10,}{counts['refused']:>10,}{len(problems):>7,}{seconds:>9.1f}")
    for index, (problem, case) in enumerate(problems.items()):
        place = folder / f"{name}-{index}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for file, data in case.items():
            if data is not None:
                (place / file).write_bytes(data)
        print(f"    {problem}\n        {place}")
    return len(problems)


def read_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="fuzz.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="in all (default: 20000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=SHARES, help="one target; all by default")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="(default: at most 2)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for what was found")
    options = parser.parse_args(arguments)
    if options.inputs < 1 or options.processes < 1:
        parser.error("--inputs and --processes must be 1 or more")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; the exit status is 1 if anything was found."""
    options = read_arguments(arguments)
    if options.only:
        return 1 if fuzz(options.only, options.inputs, options.seed, options.keep) else 0

    def start(name: str) -> int:
        inputs = max(1, options.inputs * SHARES[name] // sum(SHARES.values()))
        line = ["--only", name, "--inputs", str(inputs), "--seed", str(options.seed), "--keep", str(options.keep)]
        done = subprocess.run([sys.executable, __file__, *line], stdout=subprocess.PIPE, text=True, check=False)
        died = f"{name}: the process died, status {done.returncode}\n" if done.returncode not in (0, 1) else ""
        print(done.stdout + died, end="", flush=True)
        return done.returncode

    print(f"{'target':10}{'inputs':>9}{'accepted':>10}{'refused':>10}{'wrong':>7}{'seconds':>9}", flush=True)
    with ThreadPoolExecutor(options.processes) as pool:
        return 1 if any(list(pool.map(start, SHARES))) else 0


if __name__ == "__main__":
    sys.exit(main())
