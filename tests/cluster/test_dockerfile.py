"""cluster/Dockerfile: hadolint, and what only this project can know of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from private_hosts import ROOT

DOCKERFILE = ROOT / "cluster" / "Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its text, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def hadolint(text: str) -> subprocess.CompletedProcess:
    return subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, timeout=60, check=False)


def test_hadolint_has_nothing_against_it():
    done = hadolint(DOCKERFILE.read_text())
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("USER 1000:1000", "USER root"),
        ("FROM ${BASE} AS build", "FROM python:latest AS build"),
        ("WORKDIR /home", "WORKDIR home"),
    ],
)
def test_hadolint_finds_what_is_wrong(right, wrong):
    text = DOCKERFILE.read_text()
    assert right in text
    assert hadolint(text.replace(right, wrong)).returncode != 0


def test_its_shell_lines_are_valid_for_the_shell_that_runs_them():
    for name, text in instructions():
        if name == "RUN":
            done = subprocess.run(["sh", "-n", "-c", text], capture_output=True, text=True, timeout=20, check=False)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("device", "code", "index"),
    [
        ("cpu", 0, "https://download.pytorch.org/whl/cpu"),
        ("cuda", 0, "https://pypi.org/simple"),
        ("tpu", 2, "expected cpu or cuda"),
    ],
)
def test_the_device_chooses_where_pytorch_comes_from(device, code, index, tmp_path):
    (line,) = [text for name, text in instructions() if name == "RUN" and "DEVICE" in text]
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "$@"\n')
    pip.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEVICE": device}
    done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code
    assert index in done.stdout + done.stderr
    assert ("--constraint constraints.txt" in done.stdout) == (code == 0)


def test_every_installation_is_held_to_the_tested_versions():
    installs = [
        part for name, text in instructions() if name == "RUN" for part in text.split("&&") if "pip install" in part
    ]
    assert len(installs) == 4
    assert all("--constraint constraints.txt" in part for part in installs)


def test_it_ends_as_a_user_without_rights():
    users = [text for name, text in instructions() if name == "USER"]
    assert users == ["1000:1000"]


def test_its_environment_is_what_sepsearch_gives_ray_on_one_machine():
    from sepsearch.distributed.session import ENVIRONMENT

    text = " ".join(text for name, text in instructions() if name == "ENV")
    values = dict(re.findall(r"(\w+)=(\S+)", text))
    assert values["RAY_AUTH_MODE"] == "token"
    assert {name: values.get(name) for name in ENVIRONMENT} == ENVIRONMENT


def test_what_it_copies_is_let_in_and_nothing_else_is():
    lines = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for name, text in instructions()
        if name == "COPY" and "--from" not in text
        for source in [word for word in text.split() if not word.startswith("--")][:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_no_secret_is_an_argument_or_in_the_environment():
    text = " ".join(text for name, text in instructions() if name in ("ARG", "ENV"))
    assert not re.search(r"(?i)password|secret|credential|auth_token", text)
