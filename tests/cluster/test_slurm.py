"""cluster/slurm.sbatch in a real Slurm on two hosts, and what shellcheck says of it."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from private_hosts import ROOT, isolated, require

SCRIPT = ROOT / "cluster" / "slurm.sbatch"


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> dict:
    """All scenarios of slurm_jobs.py."""
    require("slurmctld", "slurmd", "munged", "sbatch", "ip", "unshare")
    done = isolated(Path(__file__).parent / "slurm_jobs.py", tmp_path_factory.mktemp("slurm"), timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def one_line(job: dict) -> str:
    """The only line a refused job wrote, apart from the same one of other nodes."""
    lines = {re.sub(r"slurm.sbatch: n\d: ", "slurm.sbatch: ", line) for line in job["log"].splitlines()}
    assert len(lines) == 1, job["log"]
    return lines.pop()


def test_head_and_worker_join_with_a_token_and_the_command_runs_on_both(jobs):
    job = jobs["finished"]
    assert (job["state"], job["exit"]) == ("COMPLETED", "0:0"), job["log"]
    assert re.search(r"Ray at 10\.77\.0\.12:\d+: 2 nodes, 2 CPUs, 0 GPUs", job["log"])
    assert "MODE token 0o600" in job["log"]
    assert "RAN ['n1', 'n2']" in job["log"]


def test_the_token_is_on_no_command_line(jobs):
    job = jobs["cancelled"]
    token = re.search(r"TOKEN ([0-9a-f]{64})", job["log"])[1]
    assert any("raylet" in line for line in job["arguments"])
    assert not [line for line in job["arguments"] if token in line]


@pytest.mark.parametrize("name", ["finished", "cancelled", "warned", "failed"])
def test_nothing_is_left_of_a_job_however_it_ends(jobs, name):
    job = jobs[name]
    assert job["left"] == []
    assert job["files"] == []
    assert job["temporary"] == ""


def test_the_signal_before_the_time_limit_ends_the_search_cleanly(jobs):
    assert "the search ends cleanly" in jobs["warned"]["log"]
    assert jobs["warned"]["exit"] == "130:0"


def test_a_failing_commands_code_is_the_jobs(jobs):
    assert (jobs["failed"]["state"], jobs["failed"]["exit"]) == ("FAILED", "7:0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "no_gpu",
            "PyTorch sees no GPU, though the job has 1 a node: install a CUDA build, or submit with --gpus-per-node=0",
        ),
        ("no_venv", "no /nowhere/bin/python: run make search or pip install there, or set SEPSEARCH_VENV"),
        ("no_storage", "2 nodes need a place for checkpoints that all of them see: --storage /shared/runs or s3://…"),
        (
            "not_shared",
            "--storage /tmp/ray/runs is not shared with this node: name a folder on a shared disk, or s3://…",
        ),
        ("no_options", "expected options of sepsearch.run, such as --space FILE --data FOLDER --storage WHERE"),
        ("port_taken", "SEPSEARCH_PORT 7777: Address already in use: leave it out, and a free one is taken"),
    ],
)
def test_a_mistake_is_one_line_and_code_2_before_ray_starts(jobs, name, expected):
    job = jobs[name]
    assert one_line(job) == f"slurm.sbatch: {expected}"
    assert job["exit"] == "2:0"
    assert job["left"] == []
    assert job["temporary"] == ""


def test_called_by_bash_it_says_that_it_is_for_sbatch():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr == "slurm.sbatch: this is a job for Slurm: sbatch cluster/slurm.sbatch …\n"
