"""Fuzzing command lines: names that leave the folder, numbers that are none, of every option of the programs."""

import contextlib
import io
import json
import os
from pathlib import Path
from random import Random

from fuzz_bytes import Case, expect

from sepsearch import export, prepare, promote, report, run, separate
from sepsearch.data.demo import rendering

ODD = ["", " ", ".", "..", "/", "../x", "a/b", "a\\b", "x" * 101, "x" * 5000, "-x", "--", "\n", "a\nb", "\0",
       "\udcff", "\u202e", "é", "[/x]", "%s", "{0}",
       "~", "*", "$(true)", "'", "vn", "vn,vc", "vn,vn", "vn,,vc", ",", "VN", "violin", "vn,kazoo", "0", "1", "-1",
       "1.5", "1e3", "1e999", "nan", "inf",
       "-inf", "９", "²", "١", "0x10", "010", "1_0", "+1", "9" * 30, "9" * 5000, "10m", "2h", "0s", "-1s", "1d",
       "9" * 400 + "s", "auto",
       "ray://", "ray://x:y", "ray://127.0.0.1:1", "nowhere", "nowhere/x.wav", "space.yaml", "space", "/dev/null",
       "mix.wav", "t0000", "t0000/../x",
       "None", "true", "mel", "models:/x/1"]  # fmt: skip
RUN = ["--name", "--instruments", "--trials", "--max-epochs", "--time-budget", "--seed", "--workers",
       "--cpus-per-trial",
       "--gpus-per-trial", "--address", "--resume", "--runs", "--space", "--data", "--unknown", "--nam"]  # fmt: skip


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
        (folder / "space.yaml").write_text("parameters: {filters: [8, 16]}")
        (folder / "mix.wav").write_bytes(b"RIFF")
        rendering.demo_folder = _no_demo
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'none.db'}"
        self.there = sorted(os.listdir(folder))

    def make(self, rng: Random) -> Case:
        """[program, arguments] as JSON; the data folder does not exist, whatever else is right."""
        program = rng.choice(("run", "run", "run", "prepare", "separate", "report", "promote", "export"))
        if program == "run":
            line = ["--space", "space.yaml", "--runs", "runs", "--data", "nowhere"]
            for option in rng.sample(RUN, rng.choice((1, 1, 2))):
                odd = rng.choice(ODD)
                line += [option, odd if option != "--data" or odd.strip("./") else "no\udcffwhere"]
        elif program == "prepare":
            line = [rng.choice([text for text in ODD if text.strip("./ ")])]
            line += rng.choice(([], ["--preset", rng.choice(ODD)], ["--space", rng.choice(ODD)], ["--name", "x"]))
        elif program == "report":
            line = [rng.choice(("x", rng.choice(ODD))), *rng.choice(([], ["--runs", rng.choice(ODD)]))]
        elif program == "promote":
            line = [rng.choice(("x/c0-s1", "models:/sepsearch-vn/3", rng.choice(ODD)))]
            line += ["--instrument", rng.choice(("vn", rng.choice(ODD)))]
        elif program == "export":
            line = [rng.choice(("vn", rng.choice(ODD))), rng.choice(("out", rng.choice(ODD)))]
        else:
            line = [rng.choice(("mix.wav", rng.choice(ODD))), "--instrument", rng.choice(("vn", rng.choice(ODD)))]
            line += ["-o", rng.choice(("out.wav", rng.choice(ODD))), "--model", rng.choice(ODD)]
        return {"line.json": json.dumps([program, line]).encode()}

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
