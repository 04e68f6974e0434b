"""Provisional models: what is made of a trial's checkpoint, and how they are marked and found."""

import pytest
import torch
from recording_fixtures import write_plain_tree

from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import gather_data
from sepsearch.distributed.trainable import epoch_report
from sepsearch.evaluation.provisional_models import write_provisional_models
from sepsearch.models.families import config_params, make_config
from sepsearch.models.saved_model import PROVISIONAL_FOLDER, is_provisional, load_model
from sepsearch.spaces.space import parse_space
from sepsearch.tracking.resolve import choose_models
from sepsearch.training.checkpoint import Checkpoint
from sepsearch.training.loop import fit
from sepsearch.training.members import Member

CODES = ("vc", "vn")
CONFIG = make_config({"filters": 2, "head": "mask", "batch_size": 4, "heads": "all"})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    pieces = {"a": CODES, "b": CODES, "c": CODES, "d": CODES}
    folder = write_plain_tree(tmp_path_factory.mktemp("duets"), pieces, 3.0)
    space = parse_space({"parameters": {"filters": [2, 3]}, "front_end": {"clip_seconds": 1.0}}, "test")
    return gather_data(*prepare(folder, space.front_end.resolve(), lambda *_: None), CODES, 0, (0.5, 0.25, 0.25), 8)


def write(prepared, folder, seed=0, trial="t0003"):
    """Models of one epoch; gives its result."""
    members = [Member(code, seed) for code in CODES]
    (result,) = fit(CONFIG, prepared.training_data(), members, epochs=1, batches_per_epoch=1)
    checkpoint = Checkpoint(result.state(), epoch_report(result), {})
    write_provisional_models(folder, "duets", prepared, trial, config_params(CONFIG), checkpoint)
    return result


def test_they_are_the_networks_of_the_trials_last_epoch_with_its_validation_scores(prepared, tmp_path):
    result = write(prepared, tmp_path)
    for member in result.members:
        network, card = load_model(tmp_path / PROVISIONAL_FOLDER / member.member.instrument)
        weights = member.weights()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
        assert card.scores["ratio"] == member.ratio
        assert card.scores["trial"] == "t0003"
        assert "test_ratio" not in card.scores


def test_they_are_marked(prepared, tmp_path):
    write(prepared, tmp_path)
    _, card = load_model(tmp_path / PROVISIONAL_FOLDER / "vn")
    assert is_provisional(card)
    assert card.caveat.startswith("provisional: ")


def test_those_of_a_better_trial_replace_all_of_them(prepared, tmp_path):
    write(prepared, tmp_path)
    write(prepared, tmp_path, seed=1, trial="t0005")
    cards = [load_model(tmp_path / PROVISIONAL_FOLDER / code)[1] for code in CODES]
    assert [(card.scores["trial"], card.seed) for card in cards] == [("t0005", 1)] * 2
    assert [path.name for path in tmp_path.iterdir()] == [PROVISIONAL_FOLDER]


def test_a_run_without_final_models_separates_with_them(prepared, tmp_path):
    write(prepared, tmp_path)
    assert sorted(choose_models(None, str(tmp_path))) == sorted(CODES)
