"""The scripts in examples/: each runs on small data and does what its first lines say."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, load_model, save_model

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def test_training_without_ray_saves_the_model_of_the_best_epoch(tree, tmp_path, capsys):
    train = runpy.run_path(str(EXAMPLES / "train_one_network.py"))["train"]
    best = train(tree, "vn", tmp_path / "vn", epochs=2, batches=4, seconds=1.0)
    ratios = [float(ratio) for ratio in re.findall(r"ratio ([\d.]+)", capsys.readouterr().out)]
    assert len(ratios) == 2
    assert best == pytest.approx(min(ratios), abs=1e-3)
    assert load_model(tmp_path / "vn")[1].instrument == "vn"


# examples/search_with_ray_tune.py: tests/distributed/test_ray_tune_classes.py.


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's results of three instruments, and its models, which were never trained."""
    ratios = {"vn": 0.7, "vc": 0.5, "fl": 1.2, "ob": None}
    config = make_config({"filters": 2, "head": "mask"})
    for seed, code in enumerate(ratios):
        torch.manual_seed(seed)
        card = ModelCard(code, config, FrontEnd(clip_seconds=1.0), 10.0)
        save_model(tmp_path / "run" / "models" / code, make_network(config), card)
    final = {code: {"ratio_mean": ratio} for code, ratio in ratios.items()}
    (tmp_path / "run" / "results.json").write_text(json.dumps({"final": final}))
    return tmp_path / "run"


def test_models_are_picked_by_results_and_separate_a_recording(run_folder, tmp_path):
    script = runpy.run_path(str(EXAMPLES / "separate_with_best_models.py"))
    assert script["pick"](run_folder) == {"vc": 0.5, "vn": 0.7}
    mixture = 0.1 * np.random.default_rng(0).standard_normal((44_100 * 3, 2))
    soundfile.write(tmp_path / "mix.wav", mixture, 44_100)
    paths = script["separate"](run_folder, tmp_path / "mix.wav", tmp_path / "voices")
    assert [path.name for path in paths] == ["vc.wav", "vn.wav"]
    for path in paths:
        voice, rate = soundfile.read(path)
        assert (voice.shape, rate) == (mixture.shape, 44_100)
        assert 0 < np.abs(voice).max() < np.abs(mixture).max() * 2


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) <= 60


NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_is_committed_without_outputs_and_its_cells_are_python(path):
    """They are executed by tests/notebooks."""
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    for cell in code:
        compile("".join(cell["source"]), str(path), "exec")
