"""Fuzzing command lines: names that leave the folder, numbers that are none, of every option of the programs."""

import contextlib
import importlib
import io
import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

from damages import Case, expect
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sepsearch import export, prepare, promote, report, run, separate
from sepsearch.data.demo import rendering

ODD = [
    "",
    " ",
    ".",
    "..",
    "/",
    "../x",
    "a/b",
    "a\\b",
    "x" * 101,
    "x" * 5000,
    "-x",
    "--",
    "\n",
    "a\nb",
    "\0",
    "\udcff",
    "\u202e",
    "é",
    "[/x]",
    "%s",
    "{0}",
    "~",
    "*",
    "$(true)",
    "'",
    "vn",
    "vn,vc",
    "vn,vn",
    "vn,,vc",
    ",",
    "VN",
    "violin",
    "vn,kazoo",
    "0",
    "1",
    "-1",
    "1.5",
    "1e3",
    "1e999",
    "nan",
    "inf",
    "-inf",
    "９",
    "²",
    "١",
    "0x10",
    "010",
    "1_0",
    "+1",
    "9" * 30,
    "9" * 5000,
    "10m",
    "2h",
    "0s",
    "-1s",
    "1d",
    "9" * 400 + "s",
    "auto",
    "ray://",
    "ray://x:y",
    "ray://127.0.0.1:1",
    "nowhere",
    "nowhere/x.wav",
    "space.yaml",
    "space",
    "/dev/null",
    "mix.wav",
    "t0000",
    "t0000/../x",
    "None",
    "true",
    "mel",
    "models:/x/1",
]
RUN = [
    "--name",
    "--instruments",
    "--trials",
    "--max-epochs",
    "--time-budget",
    "--seed",
    "--workers",
    "--cpus-per-trial",
    "--gpus-per-trial",
    "--address",
    "--resume",
    "--runs",
    "--space",
    "--data",
    "--unknown",
    "--nam",
]


def _no_demo(*_: object, **__: object) -> Path:
    """No line may get as far as this: all name a folder of recordings that is not there."""
    raise AssertionError("the demo would have been rendered")


COMMANDS = {
    module.__name__.removeprefix("sepsearch."): module.main
    for module in (export, prepare, promote, report, run, separate)
}


class Target:
    """The `main` of the commands: one line, and nothing written. No line here can succeed."""

    typed = True

    def __init__(self, folder: Path):
        self.folder = folder
        importlib.import_module("sepsearch.models.onnx")  # torch and all, which commands import when they need it
        (folder / "space.yaml").write_text("parameters: {filters: [8, 16]}")
        (folder / "mix.wav").write_bytes(b"RIFF")
        rendering.demo_folder = _no_demo
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'none.db'}"
        self.there = sorted(os.listdir(folder))

    def cases(self) -> SearchStrategy[Case]:
        """[program, arguments] as JSON; the data folder does not exist, whatever else is right."""
        odd = st.sampled_from(ODD)
        other = odd.filter(lambda text: text.strip("./ "))

        def line(*parts: Any) -> SearchStrategy[list[str]]:
            return st.tuples(*[st.just(part) if isinstance(part, str) else part for part in parts]).map(list)

        def either(usual: str) -> SearchStrategy[str]:
            return st.one_of(st.just(usual), odd)

        start = ["--space", "space.yaml", "--runs", "runs", "--data", "nowhere"]
        option = st.sampled_from(RUN).flatmap(lambda name: line(name, other if name == "--data" else odd))
        options = st.lists(option, min_size=1, max_size=2, unique_by=lambda one: one[0])
        run = options.map(lambda found: [*start, *chain.from_iterable(found)])
        extras = st.one_of(st.just([]), line("--preset", odd), line("--space", odd), line("--name", "x"))
        models = st.sampled_from(["x/c0-s1", "models:/sepsearch-vn/3", *ODD])
        lines = {
            "run": run,
            "prepare": st.tuples(other, extras).map(lambda found: [found[0], *found[1]]),
            "report": st.one_of(line(either("x")), line(either("x"), "--runs", odd)),
            "promote": line(models, "--instrument", either("vn")),
            "export": line(either("vn"), either("out")),
            "separate": line(either("mix.wav"), "--instrument", either("vn"), "-o", either("out.wav"), "--model", odd),
        }
        programs = st.sampled_from(["run", "run", *lines])
        chosen = programs.flatmap(lambda program: st.tuples(st.just(program), lines[program]))
        return chosen.map(lambda found: {"line.json": json.dumps(found).encode()})

    def check(self, case: Case) -> bool:
        """Run it; raises `Wrong` if anything was written, or if it ends in any way but an error."""
        program, line = json.loads(case["line.json"] or b"[]")
        main = COMMANDS[program]
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                main(line)
        except SystemExit as exit:
            expect(exit.code == 2, f"exit code {exit.code}")
            return False
        finally:
            expect(sorted(set(os.listdir(self.folder)) - {"cache"}) == self.there, "something was written")
        raise AssertionError("a line without recordings was carried out")
