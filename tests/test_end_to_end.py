"""One model's whole life: trained, killed, resumed, promoted by a person, exported, and used without this package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_kills import live
from test_run import clean_environment

BLOCKED = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sepsearch", "torch", "mlflow", "ray"):
            raise ImportError(name + " is not there")

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def command(folder: Path, *arguments: object) -> str:
    """What a command says; it must succeed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=clean_environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def life(tree, tmp_path_factory):
    """Folder of a search that was killed among its finalists and resumed, and its results."""
    folder = tmp_path_factory.mktemp("life")
    first = live(folder, tree, resume=False)
    first.wait_for("final_epoch", 1)
    first.process.kill()
    first.end()
    assert live(folder, tree, resume=True).end() == 0, (folder / "output.txt").read_text()
    return folder, json.loads((folder / "runs" / "x" / "results.json").read_text())


def test_a_model_that_a_person_picked_separates_alike_as_a_package_and_as_an_export_without_it(life, tree):
    folder, results = life
    row = results["final"]["vn"]
    seed = next(seed for seed in row["seeds"] if seed != row["seed"])
    said = command(folder, "-m", "sepsearch.promote", f"x/{row['configuration']}-s{seed}", "--instrument", "vn")
    assert f"seed {seed}" in said
    command(folder, "-m", "sepsearch.export", "vn", "exported")
    mixture = tree / "12_Spring_vn_vn_vc" / "AuMix_12_Spring_vn_vn_vc.wav"
    command(folder, "-m", "sepsearch.separate", mixture, "--instrument", "vn", "-o", "package.wav")
    (folder / "blocked.py").write_text(BLOCKED)
    command(folder, "blocked.py", "exported/separate.py", mixture, "alone.wav")
    package, alone = (soundfile.read(folder / name)[0] for name in ("package.wav", "alone.wav"))
    assert len(package) == len(alone) == soundfile.info(mixture).frames
    assert np.abs(package).max() > 1e-3
    assert np.abs(package - alone).max() < 0.01 * np.abs(package).max()
