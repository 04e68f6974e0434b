"""The end of a run: which model, scored how, saved where; with networks that nobody has trained."""

import math
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from recording_fixtures import write_urmp_tree
from safetensors.torch import load_file, save_file

from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import gather_data
from sepsearch.evaluation.audio_samples import read_samples
from sepsearch.evaluation.final_models import LEFT_OUT, score_models
from sepsearch.evaluation.named_players import named_losses
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import load_model
from sepsearch.runs.record import Settings
from sepsearch.search.journal import Journal
from sepsearch.search.protocol import RETURNED
from sepsearch.search.retraining import FinalPlan, FoldPlan, RunPlan
from sepsearch.search.selection import Choice, Finalist, choose_model
from sepsearch.spaces.space import parse_space
from sepsearch.training.learner import evaluate

MASK = {"family": "report", "filters": 2, "head": "mask"}
REPORT = {"family": "report", "filters": 3}
FINALISTS = [Finalist("c0", "t0001", MASK, reference=False), Finalist("c1", "t0000", REPORT, reference=True)]
CODES = ("fl", "ob", "vn")  # flutes have two titles in the tree of six pieces, oboes one of two clips


def train(plan: RunPlan) -> None:
    """Hand out all runs and leave untrained networks as their weights."""
    while (handed := plan.next()) is not None:
        unit, config = handed
        members = []
        for code in config.get("instruments", CODES):
            torch.manual_seed(len(plan.runs) + sum(map(ord, code)))
            network = make_network(make_config(config["params"]))
            (plan.folder / unit).mkdir(parents=True, exist_ok=True)
            save_file(network.state_dict(), plan.folder / unit / f"{code}.safetensors")
            ratio = 0.5 if config["params"] == MASK else 0.9
            members.append({"instrument": code, "val_loss": ratio, "ratio": ratio, "discontinuity": False})
        plan.result(unit, {"epoch": 1, "ratio": 0.5, "seconds": 1.0, "examples_per_second": 1.0, "members": members})
        plan.ended(unit, RETURNED)


def judge(tree: Path, folder: Path, codes: tuple[str, ...], finalists: list[Finalist] = FINALISTS) -> tuple:
    """Folder, prepared, plan of the folds, and the three parts of the scores."""
    space = parse_space(
        {"parameters": {"filters": [2, 3]}, "front_end": {"clip_seconds": 1.0}, "search": {"validation_examples": 8}},
        "test",
    )
    recordings, shards = prepare(tree, space.front_end.resolve(), lambda *_: None)
    prepared = gather_data(recordings, shards, codes, 0, (0.6, 0.2, 0.2), space.search.validation_examples)
    journal = Journal(folder / "journal.jsonl")
    finals = FinalPlan(finalists, [1, 2], journal, folder / "finalists", 1)
    train(finals)
    choices = {code: choose_model(finals.runs, code, finals.finalists) for code in codes}
    wanted = [(f.id, f.instrument, f.title, choices[f.instrument]) for f in prepared.folds]
    assert all(isinstance(choice, Choice) for *_, choice in wanted)
    folds = FoldPlan(wanted, journal, folder / "folds", 1)
    train(folds)
    settings = Settings("x", 0, 2, 1, 1, codes, {})
    return folder, prepared, folds, *score_models(settings, prepared, finals, folds, folder)


@pytest.fixture(scope="module")
def judged(tree, tmp_path_factory):
    """Of three instruments of the tree of six pieces."""
    return judge(tree, tmp_path_factory.mktemp("judged"), CODES)


@pytest.fixture(scope="module")
def duet_tree(tmp_path_factory):
    """Three duets."""
    pieces = [("01_Jupiter_vn_ob", 2.2), ("02_Spring_vn_ob", 2.2), ("03_Hark_vn_ob", 2.2)]
    return write_urmp_tree(tmp_path_factory.mktemp("duets"), pieces)


@pytest.fixture(scope="module")
def duets(duet_tree, tmp_path_factory):
    """Of both instruments of the duets."""
    return judge(duet_tree, tmp_path_factory.mktemp("run"), ("vn", "ob"))


def test_an_instrument_with_two_titles_is_scored_with_each_left_out_in_turn(judged):
    _, prepared, folds, final, *_ = judged
    assert [fold.instrument for fold in prepared.folds] == ["fl", "fl"]
    assert set(folds.runs) == {"fl-1", "fl-2"}
    assert final["fl"]["protocol"] == LEFT_OUT
    assert final["fl"]["audio"]["titles"] == 2


def test_its_test_ratio_is_the_mean_over_the_titles_left_out(judged):
    _, prepared, folds, final, *_ = judged
    ratios = []
    for fold in prepared.folds:
        network = make_network(make_config(MASK))
        network.load_state_dict(load_file(folds.runs[fold.id].weights / f"{fold.id}.safetensors"))
        loss, _ = evaluate(network, prepared.rows, fold.splits["test"])
        ratios.append(loss / prepared.fold_identity[fold.id]["test"])
    assert final["fl"]["test_ratio"] == pytest.approx(fmean(ratios))


def test_an_instrument_with_too_few_clips_says_that_it_was_scored_on_those_it_was_trained_on(judged):
    _, _, _, final, *_ = judged
    assert final["ob"]["protocol"] == "clips it was trained on"
    assert final["vn"]["protocol"] == "test titles"


def test_a_row_names_the_chosen_configuration_seed_and_epoch_and_the_spread_over_seeds(judged):
    *_, final, reference, _ = judged
    row = final["vn"]
    assert (row["configuration"], row["seed"], row["epoch"], row["seeds"]) == ("c0", 1, 1, [1, 2])
    assert row["ratio_interval"] is None  # of two seeds
    assert row["si_sdr_gain_db"] == row["audio"]["gain"]["si_sdr_db"]
    assert math.isfinite(row["mixture_similarity_db"])
    assert reference["vn"]["configuration"] == "c1"
    assert reference["vn"]["ratio_mean"] == 0.9


def test_scores_with_the_players_named_are_of_all_final_networks_and_of_all_reference_networks(duets):
    _, prepared, _, final, reference, _ = duets
    for rows, config in ((final, MASK), (reference, REPORT)):
        runs = {code: (rows[code]["configuration"], rows[code]["seed"]) for code in ("vn", "ob")}
        networks = {}
        for code, (configuration, seed) in runs.items():
            networks[code] = make_network(make_config(config))
            weights = duets[0] / "finalists" / f"{configuration}-s{seed}" / f"{code}.safetensors"
            networks[code].load_state_dict(load_file(weights))
        examples = {code: prepared.examples[code]["test"] for code in networks}
        losses = named_losses(networks, prepared.rows, prepared.index, examples)
        for code, loss in losses.items():
            ratio = loss / prepared.baselines["test"]["identity"][code]
            assert rows[code]["named_test_ratio"] == pytest.approx(ratio)
    assert final["vn"]["named_test_ratio"] != pytest.approx(final["vn"]["test_ratio"])
    assert isinstance(final["vn"]["named_si_sdr_gain_db"], float)


def test_scores_with_the_players_named_are_the_same_where_the_reference_network_is_chosen(duet_tree, tmp_path):
    *_, final, reference, _ = judge(duet_tree, tmp_path, ("vn", "ob"), [Finalist("c0", "t0000", MASK, reference=True)])
    for code, row in final.items():
        assert row["named_test_ratio"] == reference[code]["named_test_ratio"] is not None
        assert row["named_si_sdr_gain_db"] == reference[code]["named_si_sdr_gain_db"] is not None


def test_nothing_is_scored_with_players_named_where_one_has_no_model_or_titles_were_left_out(judged):
    *_, final, reference, _ = judged
    for code in CODES:
        assert (final[code]["named_test_ratio"], final[code]["named_si_sdr_gain_db"]) == (None, None)
    assert reference["vn"]["named_test_ratio"] is None


def test_every_model_is_saved_with_its_scores_and_has_a_sample_to_listen_to(judged):
    folder, _, _, final, *_ = judged
    _, card = load_model(folder / "models" / "vn")
    assert card.scores["audio"] == final["vn"]["audio"]
    samples = read_samples(folder)
    assert set(samples) == set(CODES)
    assert samples["vn"].facts["title"] in card.split["test"]


def test_every_finalists_best_seed_is_scored_and_heard_on_the_same_clip(duets):
    folder, *_, final, reference, candidates = duets
    for code in ("vn", "ob"):
        rows = candidates[code]
        assert {name.partition("-")[0] for name in rows} == {"c0", "c1"}
        own = f"{final[code]['configuration']}-s{final[code]['seed']}"
        other = f"{reference[code]['configuration']}-s{reference[code]['seed']}"
        assert rows[own]["test_ratio"] == final[code]["test_ratio"]
        assert rows[other]["test_ratio"] == reference[code]["test_ratio"]
        sample = read_samples(folder)[code]
        assert (sample.chosen, list(sample.candidates)) == (own, [other])
        heard = sample.candidates[other]
        assert heard.audio["mixture"] == sample.audio["mixture"]
        assert heard.audio["estimate"] != sample.audio["estimate"]
        assert heard.facts["clip"] == sample.facts["clip"]
        assert not np.array_equal(heard.spectrograms["mask"], sample.spectrograms["mask"])
