"""The plug-ins of examples/, installed as a distribution: searches name them, and resumes see that they changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recording_fixtures import melody, write_urmp_piece, write_wav

EXAMPLES = Path(__file__).parents[2] / "examples"
SPACE = """
family: band_mask
parameters: {hidden: [4, 8], heads: all, learning_rate: {low: 1e-3, high: 1e-2, log: true}}
front_end: {clip_seconds: 1.0}
search: {trials: 2, epochs: 1, examples_per_epoch: 32, validation_examples: 16, sampler: local}
final: {configurations: 1, seeds: 1, epochs: 1}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder that pip has installed the examples in, as examples/plugin says."""
    source, target = tmp_path_factory.mktemp("source") / "examples", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLES, source)  # setuptools writes beside what it builds
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source / "plugin")], check=True)
    return target


def run(folder: Path, site: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of sepsearch in a process of its own, with the plug-in or without it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    places = [str(EXAMPLES.parent), *([str(site)] if site else [])]
    environment["PYTHONPATH"] = os.pathsep.join(places)
    command = [sys.executable, "-m", "sepsearch", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def finished(site, tmp_path_factory, tree) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A search of one trial beside the reference, with the family and the sampler of the distribution."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "space.yaml").write_text(SPACE)
    arguments = [
        "--space",
        "space.yaml",
        "--data",
        str(tree),
        "--instruments",
        "vn,vc",
        "--name",
        "x",
        "--workers",
        "1",
    ]
    return folder, run(folder, site, "run", *arguments)


def test_a_search_with_an_installed_family_and_sampler_gives_models_of_it(finished):
    folder, done = finished
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((folder / "runs" / "x" / "results.json").read_text())
    assert [trial["params"]["family"] for trial in results["trials"]].count("band_mask") == 1
    first = json.loads((folder / "runs" / "x" / "journal.jsonl").read_text().splitlines()[0])
    assert first["versions"]["sepsearch-example-plugin"].startswith("1.0+")
    names = {finalist["params"]["family"] for finalist in results["finalists"]}
    assert names == {"report", "band_mask"}


def test_without_the_distribution_the_space_is_refused_in_one_line(finished):
    done = run(finished[0], None, "run", "--space", "space.yaml", "--name", "y")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: space.yaml: search: sampler is 'local', expected one of tpe, random, gp, qmc or a plug-in's:"
        " install the distribution that has it, or register it in Python (docs/plug-ins.md)"
    ]
    assert not (finished[0] / "runs" / "y").exists()


def test_an_edited_plugin_is_a_change_that_a_resume_refuses(finished, site, tmp_path, tree):
    folder = tmp_path / "search"
    shutil.copytree(finished[0], folder)
    lines = (folder / "runs" / "x" / "journal.jsonl").read_text().splitlines(keepends=True)
    (folder / "runs" / "x" / "journal.jsonl").write_text(lines[0])  # as if it was killed when it had begun
    shutil.rmtree(folder / "runs" / "x" / "models")
    edited = tmp_path / "site"
    shutil.copytree(site, edited)
    with (edited / "own_family.py").open("a") as file:
        file.write("# edited\n")
    done = run(folder, edited, "run", "--resume", "x")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "versions changed since the run began: versions.sepsearch-example-plugin: " in done.stderr


def test_the_layouts_of_the_distribution_are_there_for_prepare(site, tmp_path):
    for number, name in enumerate(("01-AchGottundHerr", "02-AchLiebenChristen")):
        for code, part in (("vn", "violin"), ("sax", "saxphone")):
            samples = melody(code, 0.6, np.random.default_rng(number))
            write_wav(tmp_path / "bach10" / name / f"{name}-{part}.wav", samples)
    write_urmp_piece(tmp_path / "urmp", "01_Jupiter_vn_vc", 1.5)
    done = run(tmp_path, site, "prepare", "bach10")
    assert "read by the layout bach10" in done.stdout, done.stdout + done.stderr
    assert "read by the layout" not in run(tmp_path, site, "prepare", "urmp").stdout
