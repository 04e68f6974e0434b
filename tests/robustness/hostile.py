"""What the tests of hostile input share: the fuzzers of `fuzz/`, and files that were hostile once."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from sepsearch.utils.errors import UserError

damages, fuzz, fuzz_audio, fuzz_folders, fuzz_journal, fuzz_models, fuzz_shards, fuzz_space = (
    import_module(name if name in ("damages", "fuzz") else f"fuzz_{name}")
    for name in ("damages", "fuzz", "audio", "folders", "journal", "models", "shards", "space")
)

# What nobody may name a file by that is to lie below a folder.
HOSTILE_NAMES = (
    "../evil",
    "a/../../evil",
    "..",
    "/etc/evil",
    "//evil",
    "a//b",
    "a/",
    "./a",
    "a/.",
    "",
    "a\\b",
    "..\\evil",
    "C:/evil",
    "c:evil",
    "nul\0",
    "esc\x1b[31m",
    "line\nbreak",
)
CORPUS = Path(__file__).parent / "corpus"
few = settings(derandomize=True, max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def corpus(kind: str) -> Any:
    """Parametrizes a test with the files of one kind."""
    return pytest.mark.parametrize("path", sorted((CORPUS / kind).iterdir()), ids=lambda path: path.name)


def refusal(act: Callable[[], object]) -> str:
    """The error with which an act is refused: one line, printable, of moderate length."""
    with pytest.raises(UserError) as caught:
        act()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 2000
    return message


@contextmanager
def fuzz_target(module: Any, folder: Path) -> Iterator[Any]:
    """A target of the fuzzer that works in a folder, which is the current one meanwhile."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield module.Target(folder)
    finally:
        os.chdir(before)


def verdicts(target: Any, count: int) -> set[str]:
    """The kinds of verdicts on inputs of a fuzz target; fails with the smallest input that goes wrong."""
    found = set()

    @settings(few, max_examples=count)
    @given(target.cases())
    def check(case: dict[str, bytes | None]) -> None:
        found.add(fuzz.judge(target, case))

    check()
    return found
