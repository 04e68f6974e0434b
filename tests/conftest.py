"""Fixtures that several tests share: a synthetic data set in memory, and a miniature folder of recordings."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sepsearch.baselines import all_baselines
from sepsearch.examples import Dataset, RowIndex, Rows
from sepsearch.spectrogram import all_subsets
from sepsearch.split_examples import split_pairs
from sepsearch.splits import split_titles

if TYPE_CHECKING:
    from sepsearch.plan import Workers

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
    from sepsearch.session import ENVIRONMENT

    for name, value in {**ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}.items():
        os.environ.setdefault(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU are skipped where there is none; those of a cluster are marked, so that they can be left out."""
    import torch

    # Two threads wait for each other longer than they compute where anything else runs; in processes of tests, too.
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for item in items:
        if item.path.parent.name == "cluster":
            item.add_marker("cluster")
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache; the tests of one run share one."""
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short pieces in URMP's layout."""
    from trees import write_urmp_tree  # needs soundfile, which tests of the networks alone do without

    return write_urmp_tree(tmp_path_factory.mktemp("urmp"), PIECES)


def synthetic_index(pieces: dict[str, tuple[str, ...]], clips: int = 2) -> RowIndex:
    """An index over pieces (name "title" or "title/arrangement" → players), every subset of `clips` clips."""
    piece, clip, subset = [], [], []
    for number, players in enumerate(pieces.values()):
        for c in range(clips):
            for s in all_subsets(len(players)):
                piece.append(number)
                clip.append(c)
                subset.append(s)
    return RowIndex(
        names=tuple(pieces),
        titles=tuple(name.split("/")[0] for name in pieces),
        players=tuple(pieces.values()),
        piece=np.array(piece),
        clip=np.array(clip),
        subset=np.array(subset),
        sound=np.ones(len(piece), dtype=np.float32),
    )


def synthetic_rows(index: RowIndex, seed: int = 0) -> np.ndarray:
    """Float16 (row, 128, 128): every instrument sounds in its own bands, mixtures are sums."""
    codes = index.instruments
    rng = np.random.default_rng(seed)
    rows = np.zeros((len(index.piece), 128, 128), dtype=np.float32)
    voices: dict[tuple[int, int, int], np.ndarray] = {}
    for row, (piece, clip, subset) in enumerate(zip(index.piece, index.clip, index.subset, strict=True)):
        for player, code in enumerate(index.players[piece]):
            if subset >> player & 1:
                if (piece, clip, player) not in voices:
                    voice = np.zeros((128, 128), dtype=np.float32)
                    voice[:, codes.index(code) :: len(codes)] = rng.random((128, 1)) * 2
                    voices[piece, clip, player] = voice
                rows[row] += voices[piece, clip, player]
    return rows.astype(np.float16)


def synthetic_data(device: str = "cpu") -> Dataset:
    """A data set of two instruments in four titles that a network learns in a few batches."""
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "vc"), "c": ("vn", "vn", "vc"), "d": ("vc", "vn")})
    rows = Rows([synthetic_rows(index)], device)
    split = split_titles(index.title_facts(), seed=0)
    examples, _ = split_pairs(index, split, ["vn", "vc"])
    identity = all_baselines(rows, examples)["validation"]["identity"]
    return Dataset(rows, examples, identity)


@pytest.fixture(scope="session")
def ray_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Workers"]:
    """A local Ray with two CPUs, for all tests that need one."""
    from sepsearch.session import ray_session

    with ray_session(cpus=2, dashboard=False) as session:
        yield session.workers(1.0, None, None)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its schema, which takes seconds to make."""
    from sepsearch import tracking

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking.connect(f"sqlite:///{path}").get_experiment_by_name("any")
    return path
