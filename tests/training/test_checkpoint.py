"""Checkpoints: training goes on from them with the same numbers; what is damaged or foreign is no checkpoint."""

import copy
import itertools

import pytest
import torch
from synthetic import synthetic_data

from sepsearch.models.families import make_config
from sepsearch.training.checkpoint import Checkpoint, checkpoint_weights, load_checkpoint, save_checkpoint
from sepsearch.training.loop import EpochResult, fit
from sepsearch.training.members import Member
from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import open_storage

CONFIG = make_config({"filters": 4, "head": "mask", "batch_size": 8, "l2": 1e-4})
MEMBERS = [Member("vn", 1), Member("vc", 1)]
UNIT = {"id": "t0003", "params": {"filters": 4}, "seed": 1}


def numbers(results: list[EpochResult]) -> list[tuple]:
    return [
        (r.epoch, [(m.train_loss, m.val_loss, m.gradient_norm, m.discontinuity) for m in r.members]) for r in results
    ]


def saved(path, epochs=2):
    """Train that many epochs, save the checkpoint of the last, and return what it holds."""
    results = fit(CONFIG, synthetic_data(), MEMBERS, epochs=9, batches_per_epoch=3)
    *_, last = itertools.islice(results, epochs)
    weights = last.members[0].weights()
    checkpoint = Checkpoint(last.state(), {"epoch": epochs, "ratio": 0.1 + 0.2}, {MEMBERS[0]: (1 / 3, weights)})
    save_checkpoint(open_storage(path.parent), path.name, UNIT, checkpoint)
    return copy.deepcopy(checkpoint)


def test_training_goes_on_from_a_checkpoint_with_exactly_the_same_numbers(tmp_path):
    data = synthetic_data()
    whole = list(fit(CONFIG, data, MEMBERS, epochs=5, batches_per_epoch=3))
    saved(tmp_path / "x.checkpoint")
    checkpoint = load_checkpoint(open_storage(tmp_path), "x.checkpoint", UNIT)
    assert checkpoint is not None
    rest = list(fit(CONFIG, data, MEMBERS, epochs=5, batches_per_epoch=3, state=checkpoint.state))
    assert numbers(rest) == numbers(whole[2:])


def test_a_checkpoint_of_the_last_epoch_leaves_nothing_to_train(tmp_path):
    saved(tmp_path / "x.checkpoint")
    checkpoint = load_checkpoint(open_storage(tmp_path), "x.checkpoint", UNIT)
    assert checkpoint is not None
    assert list(fit(CONFIG, synthetic_data(), MEMBERS, epochs=2, batches_per_epoch=3, state=checkpoint.state)) == []


def test_report_and_best_weights_come_back_as_they_were(tmp_path):
    before = saved(tmp_path / "x.checkpoint")
    after = load_checkpoint(open_storage(tmp_path), "x.checkpoint", UNIT)
    assert after is not None
    assert (after.state.epoch, after.report) == (2, {"epoch": 2, "ratio": 0.1 + 0.2})
    assert list(after.best) == [MEMBERS[0]]
    assert after.best[MEMBERS[0]][0] == 1 / 3
    for name, tensor in before.best[MEMBERS[0]][1].items():
        assert torch.equal(after.best[MEMBERS[0]][1][name], tensor)


@pytest.mark.parametrize("byte", [0, 7, 40, 500, 5000, -5, -1])
def test_a_flipped_bit_anywhere_makes_it_no_checkpoint(byte, tmp_path):
    path = tmp_path / "x.checkpoint"
    saved(path)
    blob = bytearray(path.read_bytes())
    blob[byte] ^= 4
    path.write_bytes(blob)
    assert load_checkpoint(open_storage(path.parent), path.name, UNIT) is None


@pytest.mark.parametrize("size", [0, 3, 11, 1000, -1])
def test_a_truncated_file_is_no_checkpoint(size, tmp_path):
    path = tmp_path / "x.checkpoint"
    saved(path)
    path.write_bytes(path.read_bytes()[:size])
    assert load_checkpoint(open_storage(path.parent), path.name, UNIT) is None


def test_a_checkpoint_of_another_configuration_is_not_taken(tmp_path):
    saved(tmp_path / "x.checkpoint")
    assert load_checkpoint(open_storage(tmp_path), "x.checkpoint", {**UNIT, "seed": 2}) is None


def test_a_missing_file_is_no_checkpoint(tmp_path):
    assert load_checkpoint(open_storage(tmp_path), "nothing", UNIT) is None


def test_where_a_checkpoint_cannot_be_written_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "x.checkpoint"
    saved(path, epochs=1)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sepsearch.utils.files.os.replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        saved(path, epochs=2)
    checkpoint = load_checkpoint(open_storage(path.parent), path.name, UNIT)
    assert checkpoint is not None
    assert checkpoint.state.epoch == 1
    assert [file.name for file in tmp_path.iterdir()] == ["x.checkpoint"]


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_the_weights_of_a_checkpoint_are_those_that_were_validated_by_instrument(tmp_path, averaging):
    config = make_config({"filters": 4, "head": "mask", "batch_size": 8, "heads": "all", "averaging": averaging})
    *_, last = fit(config, synthetic_data(), MEMBERS, epochs=2, batches_per_epoch=2)
    save_checkpoint(open_storage(tmp_path), "x.checkpoint", UNIT, Checkpoint(last.state(), {}, {}))
    checkpoint = load_checkpoint(open_storage(tmp_path), "x.checkpoint", UNIT)
    assert checkpoint is not None
    found = checkpoint_weights(config, checkpoint)
    assert set(found) == {member.instrument for member in MEMBERS}
    for member in last.members:
        weights = member.weights()
        assert all(torch.equal(found[member.member.instrument][name], weights[name]) for name in weights)
