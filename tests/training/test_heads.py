"""Networks that several instruments share: their losses, states, and what goes into them."""

import dataclasses

import numpy as np
import pytest
import torch
from synthetic import synthetic_data, synthetic_index, synthetic_rows
from torch import nn

from sepsearch.data.baselines import all_baselines
from sepsearch.data.dataset import SEARCH, Dataset, Rows, instrument_pairs
from sepsearch.data.joint_examples import ABSENT, join_pairs, shared_training
from sepsearch.data.split_examples import leave_one_title_out, split_pairs
from sepsearch.data.splits import split_titles
from sepsearch.models.families import config_params, make_config, make_network
from sepsearch.models.training_config import TrainingConfig
from sepsearch.training.learner import Learner
from sepsearch.training.loop import fit
from sepsearch.training.members import Member, TrainingFailed
from sepsearch.training.optimization import learning_rate

SMALL = {"filters": 4, "head": "mask", "batch_size": 8, "learning_rate": 3e-3, "heads": "all"}
UNET = {"family": "unet", "channels": 4, "bottom_blocks": 0, "batch_size": 8, "learning_rate": 3e-3, "heads": "all"}
FULL = {
    **UNET,
    "learning_rate": 1e-2,
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup": 0.1,
    "averaging": 0.9,
    "clip_norm": 1.0,
}
EXCERPTS = {**UNET, "frames": 64, "offsets": "random"}
BOTH = [Member("vn", 0), Member("vc", 0)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def trio() -> Dataset:
    """Violin, viola and cello; the viola plays in some pieces alone."""
    pieces = {"a": ("vn", "vc"), "b": ("vn", "va", "vc"), "c": ("vn", "va", "vc"), "d": ("va", "vc", "vn")}
    index = synthetic_index(pieces)
    rows = Rows([synthetic_rows(index)])
    examples, _ = split_pairs(index, split_titles(index.title_facts(), seed=0), ["vn", "va", "vc"])
    identity = all_baselines(rows, examples)["validation"]["identity"]
    return Dataset(rows, examples, identity, following=index.following())


@pytest.mark.parametrize("params", [SMALL, UNET], ids=["report", "unet"])
def test_every_instrument_has_the_loss_that_a_plain_loop_over_instruments_computes(params):
    data, config = trio(), make_config(params)
    members = [Member(code, 1) for code in ("vn", "va", "vc")]
    (epoch,) = fit(config, data, members, epochs=1, batches_per_epoch=2)
    for member in epoch.members:
        network = make_network(config)
        network.load_state_dict(member.weights())
        pairs = data.examples[member.member.instrument]["validation"]
        with torch.inference_mode():
            output = network.eval()(data.rows.take(torch.from_numpy(pairs.mixture)))
            errors = (output - data.rows.take(torch.from_numpy(pairs.target))).square().mean(dim=(1, 2, 3))
        expected = sum(
            float(errors[torch.from_numpy(pairs.piece == piece)].double().mean()) for piece in np.unique(pairs.piece)
        ) / len(np.unique(pairs.piece))
        assert member.val_loss == pytest.approx(expected, rel=1e-6)
        assert member.ratio == pytest.approx(expected / data.identity[member.member.instrument], rel=1e-6)


def test_a_step_follows_the_mean_loss_of_all_targets_that_are_there_and_of_no_others():
    data, config = trio(), make_config(UNET)
    training = {code: data.examples[code]["train"] for code in ("vn", "va", "vc")}
    learner = Learner(config, data, [Member(code, 0) for code in training], training, 1, 1)
    (batch, *_) = drawn = learner.draws.draw(1)
    learner._drawn, learner.steps = drawn, 1
    before = {name: parameter.detach().clone() for name, parameter in learner.network.named_parameters()}
    examples, absent = join_pairs(list(training.values())), 0
    losses = []
    network = make_network(config, 3)
    network.load_state_dict(before)
    for row in batch.mixture.tolist():
        output = network(data.rows.take(torch.tensor([row])))[0]
        for number, target in enumerate(examples.target[examples.mixture.tolist().index(row)].tolist()):
            if target == ABSENT:
                absent += 1
            else:
                losses.append(nn.functional.mse_loss(output[number], data.rows.take(torch.tensor([target]))[0, 0]))
    assert absent
    torch.stack(losses).mean().backward()
    learner.batches = 1
    train_losses, norm = learner.train(1, data.rows.stream([(batch.mixture, batch.target)]))
    expected = nn.utils.get_total_norm([p.grad for p in network.parameters()])
    assert norm == pytest.approx(float(expected), rel=1e-5)
    assert sum(train_losses) > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("params", [SMALL, UNET, FULL], ids=["report", "unet", "full"])
def test_a_shared_network_learns_all_its_instruments(params, device):
    *_, last = fit(make_config(params), synthetic_data(device), BOTH, epochs=4, batches_per_epoch=12)
    assert all(member.ratio < 0.6 for member in last.members)


def test_excerpts_of_half_a_clip_train_a_network_that_separates_whole_ones():
    *_, last = fit(make_config(EXCERPTS), trio(), [Member("vn", 0), Member("vc", 0)], epochs=4, batches_per_epoch=12)
    assert all(member.ratio < 0.7 for member in last.members)


@pytest.mark.parametrize("params", [SMALL, FULL, EXCERPTS], ids=["report", "full", "excerpts"])
def test_training_goes_on_from_a_state_with_exactly_the_same_numbers(params):
    def numbers(results):
        return [[(m.train_loss, m.val_loss, m.gradient_norm) for m in result.members] for result in results]

    config = make_config(params)
    whole = numbers(fit(config, trio(), BOTH, epochs=4, batches_per_epoch=2))
    begun = fit(config, trio(), BOTH, epochs=4, batches_per_epoch=2)
    first = numbers([next(begun), second := next(begun)])
    rest = numbers(fit(config, trio(), BOTH, epochs=4, batches_per_epoch=2, state=second.state()))
    assert first + rest == whole


def test_seeds_of_a_bank_are_networks_of_their_own():
    config, data = make_config(SMALL), synthetic_data()
    alone = [m.val_loss for r in fit(config, data, BOTH, epochs=2, batches_per_epoch=2) for m in r.members]
    seeds = [*BOTH, Member("vn", 1), Member("vc", 1)]
    banked = [r.members for r in fit(config, data, seeds, epochs=2, batches_per_epoch=2)]
    assert [m.val_loss for members in banked for m in members[:2]] == alone
    assert banked[0][0].val_loss != banked[0][2].val_loss


def test_a_dead_network_costs_its_instrument_and_the_others_go_on(monkeypatch):
    from sepsearch.training import learner

    def dead_violin(config, outputs):
        network = make(config, outputs)
        with torch.no_grad():
            network.regenerator.weight[:, 0] = 0
            network.regenerator.bias[0] = -1.0
        return network

    make = learner.make_network
    monkeypatch.setattr(learner, "make_network", dead_violin)
    data = synthetic_data()
    config = make_config({**SMALL, "head": "relu", "learning_rate": 1e-5})
    (epoch,) = fit(config, data, BOTH, epochs=1, batches_per_epoch=2)
    violin, cello = epoch.members
    silence = all_baselines(data.rows, data.examples)["validation"]["zero"]["vn"]
    assert violin.dead
    assert violin.val_loss == pytest.approx(silence, rel=1e-6)
    assert not cello.dead
    assert epoch.ratio == pytest.approx((violin.ratio + cello.ratio) / 2)


def test_a_bank_of_dead_networks_alone_fails(monkeypatch):
    from sepsearch.training import learner

    def dead(config, outputs):
        network = make(config, outputs)
        nn.init.zeros_(network.regenerator.weight)
        nn.init.constant_(network.regenerator.bias, -1.0)
        return network

    make = learner.make_network
    monkeypatch.setattr(learner, "make_network", dead)
    config = make_config({**SMALL, "head": "relu"})
    with pytest.raises(TrainingFailed, match="dead: the networks of vn, vc put out nothing but zeros in epoch 1"):
        list(fit(config, synthetic_data(), BOTH, epochs=1, batches_per_epoch=1))


def test_an_instrument_that_may_share_no_network_is_trained_as_with_one_head():
    data = synthetic_data()
    data = dataclasses.replace(data, shared={SEARCH: {"vc": data.examples["vc"]["train"]}})
    (shared,) = fit(make_config(SMALL), data, BOTH, epochs=1, batches_per_epoch=2)
    (alone,) = fit(make_config({**SMALL, "heads": "one"}), data, BOTH, epochs=1, batches_per_epoch=2)
    assert shared.members[0].val_loss == alone.members[0].val_loss


def test_a_fold_trains_the_other_instruments_along_and_judges_its_own_alone():
    index = synthetic_index({"a": ("vn", "vc"), "b": ("vn", "vc"), "c": ("vc", "fl"), "d": ("vc", "fl")})
    rows = Rows([synthetic_rows(index)])
    folds = leave_one_title_out(index, "vn")
    everything = {code: instrument_pairs(index, code) for code in ("vn", "vc", "fl")}
    examples = {code: dict.fromkeys(("train", "validation", "test"), pairs) for code, pairs in everything.items()}
    clean = {
        code: {**splits, "validation": pairs.pick(np.zeros(0, int)), "test": pairs.pick(np.zeros(0, int))}
        for (code, splits), pairs in zip(examples.items(), everything.values(), strict=True)
    }
    shared = shared_training(index, clean, folds)
    data = Dataset(rows, {folds[0].id: folds[0].splits}, {folds[0].id: 1.0}, shared)
    (epoch,) = fit(make_config(SMALL), data, [Member(folds[0].id, 0)], epochs=1, batches_per_epoch=1)
    (state,) = epoch.state().networks.values()
    assert [member.member.instrument for member in epoch.members] == [folds[0].id]
    assert state.tensors["network/regenerator.weight"].shape[1] == 3
    assert make_network(make_config(SMALL)).load_state_dict(epoch.members[0].weights())


def test_a_shared_network_sees_each_instrument_about_as_often_as_one_of_its_own():
    data = trio()
    training = {code: data.examples[code]["train"] for code in ("vn", "va", "vc")}
    learner = Learner(make_config(UNET), data, [Member(code, 0) for code in training], training, 30, 1)
    seen = sum(len(batch.target) for batch in learner.draws.draw(learner.batches))
    assert seen / 3 == pytest.approx(30 * 8, rel=0.1)


def test_the_cosine_schedule_rises_and_falls_to_zero_at_the_last_step():
    settings = TrainingConfig(learning_rate=1.0, schedule="cosine", warmup=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates.index(max(rates)) == 10
    assert max(rates) == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_a_gradient_is_clipped_to_the_largest_norm_and_its_own_norm_is_reported():
    def first_step(clip_norm):
        config = make_config({**SMALL, "heads": "one", "clip_norm": clip_norm, "optimizer": "adam", "l2": 0.0})
        (epoch,) = fit(config, synthetic_data(), BOTH[:1], epochs=1, batches_per_epoch=1)
        return epoch.members[0].gradient_norm

    assert first_step(1e-3) == first_step(0.0) > 1e-3


def test_averaged_weights_are_validated_and_kept():
    config = make_config({**SMALL, "averaging": 0.99})
    plain = make_config({**config_params(config), "averaging": 0.0})
    results = [list(fit(c, synthetic_data(), BOTH, epochs=2, batches_per_epoch=4))[-1] for c in (config, plain)]
    assert results[0].members[0].train_loss == results[1].members[0].train_loss
    assert results[0].members[0].val_loss != results[1].members[0].val_loss
    average = results[0].state().networks["vn/0"].tensors["average/regenerator.bias"]
    assert results[0].members[1].weights()["regenerator.bias"] == average[1]
