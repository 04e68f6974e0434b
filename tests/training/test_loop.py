"""`fit`: what it learns, that it is reproducible, and how it fails."""

import dataclasses
import math

import pytest
import torch
from plugin_fixtures import SMALL as SMALL_FAMILY
from synthetic import synthetic_data

from sepsearch.models.families import config_params, make_config
from sepsearch.training.loop import fit
from sepsearch.training.members import Member, TrainingFailed
from sepsearch.utils.plugins import FAMILIES, known_as

SMALL = make_config({"filters": 4, "head": "mask", "batch_size": 8, "learning_rate": 3e-3})
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


VIOLIN = Member("vn", 0)


@pytest.fixture
def small_dropout():
    """A configuration of a family whose networks have dropout."""
    with known_as(FAMILIES, "small", SMALL_FAMILY):
        yield make_config({"family": "small", "dropout": 0.5, "batch_size": 8})


def curve(config=SMALL, members=(VIOLIN,), epochs=2, device="cpu"):
    data = synthetic_data(device)
    return [
        [(m.member, m.train_loss, m.val_loss, m.gradient_norm) for m in result.members]
        for result in fit(config, data, members, epochs=epochs, batches_per_epoch=3)
    ]


@pytest.mark.parametrize("device", DEVICES)
def test_training_beats_doing_nothing_on_separable_instruments(device):
    *_, last = fit(SMALL, synthetic_data(device), [Member("vn", 0), Member("vc", 0)], epochs=3, batches_per_epoch=16)
    assert last.epoch == 3
    assert last.ratio < 0.5


def test_the_same_seed_gives_the_same_numbers():
    assert curve() == curve()


def test_another_seed_gives_other_numbers():
    assert curve(members=[Member("vn", 1)]) != curve(members=[Member("vn", 0)])


def test_a_members_numbers_do_not_depend_on_the_rest_of_the_bank():
    alone = curve(members=[Member("vc", 3)])
    banked = curve(members=[Member("vn", 0), Member("vc", 3), Member("vn", 3)])
    assert [[m for m in epoch if m[0] == Member("vc", 3)] for epoch in banked] == alone


@pytest.mark.gpu
def test_a_gpu_gives_the_numbers_of_the_cpu():
    for cpu, gpu in zip(curve(epochs=3), curve(epochs=3, device="cuda"), strict=True):
        assert [m[1:] for m in gpu] == [pytest.approx(m[1:], rel=1e-3) for m in cpu]


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    curve(epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_a_network_that_drops_units_at_random_gives_the_same_numbers_alone_banked_and_resumed(small_dropout):
    alone = curve(small_dropout, members=[Member("vc", 3)])
    assert curve(small_dropout, members=[Member("vc", 3)]) == alone
    banked = curve(small_dropout, members=[Member("vn", 0), Member("vc", 3)])
    assert [[m for m in epoch if m[0] == Member("vc", 3)] for epoch in banked] == alone
    data, options = synthetic_data(), {"epochs": 2, "batches_per_epoch": 3}
    first = next(fit(small_dropout, data, [Member("vc", 3)], **options))
    (rest,) = fit(small_dropout, data, [Member("vc", 3)], state=first.state(), **options)
    assert [(m.member, m.train_loss, m.val_loss, m.gradient_norm) for m in rest.members] == alone[1]


def test_every_epoch_tells_losses_ratio_gradient_speed_and_zeros():
    data = synthetic_data()
    (result,) = fit(SMALL, data, [Member("vn", 0)], epochs=1, batches_per_epoch=2)
    (member,) = result.members
    assert member.ratio == member.val_loss / data.identity["vn"]
    assert member.gradient_norm > 0
    assert 0 <= member.zero_share < 1
    assert result.examples_per_second > 0


def test_an_l2_penalty_shrinks_the_weights():
    def size(l2):
        config = make_config({**config_params(SMALL), "l2": l2})
        *_, last = fit(config, synthetic_data(), [Member("vn", 0)], epochs=2, batches_per_epoch=20)
        return sum(float(tensor.square().sum()) for tensor in last.members[0].weights().values())

    assert size(0.1) < 0.5 * size(0.0)


def test_a_loss_that_is_no_number_ends_the_trial_with_its_reason():
    config = make_config({**config_params(SMALL), "learning_rate": 10.0, "head": "relu"})
    data = synthetic_data()
    data = dataclasses.replace(data, identity={"vn": 1.0, "vc": 1.0})
    poisoned = data.rows._shards[0]
    poisoned[:] = math.nan
    with pytest.raises(TrainingFailed, match="NaN: the training loss of vn is nan in epoch 1"):
        list(fit(config, data, [Member("vn", 0)], epochs=1, batches_per_epoch=1))


def test_a_dead_network_ends_the_trial_with_its_reason(monkeypatch):
    from sepsearch.training import learner

    def dead(config, outputs):
        network = make(config, outputs)
        torch.nn.init.zeros_(network.regenerator.weight)
        torch.nn.init.constant_(network.regenerator.bias, -1.0)
        return network

    make = learner.make_network
    monkeypatch.setattr(learner, "make_network", dead)
    config = make_config({**config_params(SMALL), "head": "relu"})
    with pytest.raises(TrainingFailed, match="dead: the network of vn put out nothing but zeros in epoch 1"):
        list(fit(config, synthetic_data(), [Member("vn", 0)], epochs=1, batches_per_epoch=1))


def test_an_instrument_without_anything_to_separate_takes_no_part_in_the_objective():
    data = synthetic_data()
    data = dataclasses.replace(data, identity={**data.identity, "vc": 0.0})
    (epoch,) = fit(SMALL, data, [Member("vn", 0), Member("vc", 0)], epochs=1, batches_per_epoch=2)
    assert epoch.ratio == epoch.members[0].ratio > 0
    (alone,) = fit(SMALL, data, [Member("vc", 0)], epochs=1, batches_per_epoch=2)
    assert math.isnan(alone.ratio)
