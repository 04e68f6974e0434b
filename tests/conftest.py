"""Fixtures that several tests share: a synthetic data set in memory, and a miniature folder of recordings."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sepsearch.search.protocol import Workers

PIECES = [
    ("01_Jupiter_vn_vc", 2.0),
    ("02_Sonata_vn_vn", 2.0),
    ("03_Dance_fl_cl", 2.5),
    ("12_Spring_vn_vn_vc", 2.0),
    ("19_Pavane_cl_vn_vc", 2.0),
    ("28_Fugue_fl_ob_cl_bn", 2.0),
]


def pytest_configure() -> None:
    """Ray reads its settings when it is imported, by whichever test of this process comes first."""
    from sepsearch.distributed.session import ENVIRONMENT

    for name, value in {**ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}.items():
        os.environ.setdefault(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU are skipped without one; those of a cluster, a browser, notebooks or installed plug-ins are marked to be left out."""
    import torch

    # Two threads wait for each other longer than they compute where anything else runs; in processes of tests, too.
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for item in items:
        if item.path.parent.name in ("cluster", "browser", "notebooks", "wheel"):
            item.add_marker(item.path.parent.name)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache; the tests of one run share one."""
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def normal_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test's command line says of --quiet, --verbose and --json is forgotten after it."""
    from sepsearch.utils.output import OUTPUT, Output

    for name, value in vars(Output()).items():
        monkeypatch.setattr(OUTPUT, name, value)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short pieces in URMP's layout."""
    from recording_fixtures import write_urmp_tree  # needs soundfile, which tests of the networks alone do without

    return write_urmp_tree(tmp_path_factory.mktemp("urmp"), PIECES)


@pytest.fixture(scope="session")
def ray_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Workers"]:
    """A local Ray with two CPUs, for all tests that need one."""
    from sepsearch.distributed.session import ray_session

    with ray_session(cpus=2, dashboard=False) as session:
        yield session.workers(1.0, None, None)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its schema, which takes seconds to make."""
    from sepsearch.tracking import tracker

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracker.connect(f"sqlite:///{path}").get_experiment_by_name("any")
    return path
