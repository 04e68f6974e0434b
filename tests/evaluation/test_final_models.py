"""The end of a run: which model, scored how, saved where; with networks that nobody has trained."""

from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file, save_file

from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import gather_data
from sepsearch.evaluation.audio_samples import read_samples
from sepsearch.evaluation.final_models import LEFT_OUT, score_models
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import load_model
from sepsearch.runs.record import Settings
from sepsearch.search.journal import Journal
from sepsearch.search.protocol import RETURNED
from sepsearch.search.retraining import FinalPlan, FoldPlan, RunPlan
from sepsearch.search.selection import Choice, Finalist, choose_model
from sepsearch.search.space import parse_space
from sepsearch.training.loop import evaluate

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


@pytest.fixture(scope="module")
def judged(tree, tmp_path_factory):
    """Folder, prepared, plan of the folds, `final` and `reference_final`."""
    folder: Path = tmp_path_factory.mktemp("judged")
    space = parse_space(
        {"parameters": {"filters": [2, 3]}, "front_end": {"clip_seconds": 1.0}, "search": {"validation_examples": 8}},
        "test",
    )
    recordings, shards = prepare(tree, space.front_end.resolve(), lambda *_: None)
    prepared = gather_data(recordings, shards, CODES, 0, (0.6, 0.2, 0.2), space.search.validation_examples)
    journal = Journal(folder / "journal.jsonl")
    finals = FinalPlan(FINALISTS, [1, 2], journal, folder / "finalists", 1)
    train(finals)
    choices = {code: choose_model(finals.runs, code, finals.finalists) for code in CODES}
    wanted = [(f.id, f.instrument, f.title, choices[f.instrument]) for f in prepared.folds]
    assert all(isinstance(choice, Choice) for *_, choice in wanted)
    folds = FoldPlan(wanted, journal, folder / "folds", 1)
    train(folds)
    settings = Settings("x", 0, 2, 1, 1, CODES, {})
    return folder, prepared, folds, *score_models(settings, prepared, finals, folds, folder)


def test_an_instrument_with_two_titles_is_scored_with_each_left_out_in_turn(judged):
    _, prepared, folds, final, _ = judged
    assert [fold.instrument for fold in prepared.folds] == ["fl", "fl"]
    assert set(folds.runs) == {"fl-1", "fl-2"}
    assert final["fl"]["protocol"] == LEFT_OUT
    assert final["fl"]["audio"]["titles"] == 2


def test_its_test_ratio_is_the_mean_over_the_titles_left_out(judged):
    _, prepared, folds, final, _ = judged
    ratios = []
    for fold in prepared.folds:
        network = make_network(make_config(MASK))
        network.load_state_dict(load_file(folds.runs[fold.id].weights / f"{fold.id}.safetensors"))
        loss, _ = evaluate(network, prepared.rows, fold.splits["test"])
        ratios.append(loss / prepared.fold_identity[fold.id]["test"])
    assert final["fl"]["test_ratio"] == pytest.approx(fmean(ratios))


def test_an_instrument_with_too_few_clips_says_that_it_was_scored_on_those_it_was_trained_on(judged):
    *_, final, _ = judged
    assert final["ob"]["protocol"] == "clips it was trained on"
    assert final["vn"]["protocol"] == "test titles"


def test_a_row_names_the_chosen_configuration_seed_and_epoch_and_the_spread_over_seeds(judged):
    *_, final, reference = judged
    row = final["vn"]
    assert (row["configuration"], row["seed"], row["epoch"], row["seeds"]) == ("c0", 1, 1, [1, 2])
    assert row["ratio_interval"] == (0.5, 0.5)
    assert row["si_sdr_gain_db"] == row["audio"]["gain"]["si_sdr_db"]
    assert reference["vn"]["configuration"] == "c1"
    assert reference["vn"]["ratio_mean"] == 0.9


def test_every_model_is_saved_with_its_scores_and_has_a_sample_to_listen_to(judged):
    folder, _, _, final, _ = judged
    _, card = load_model(folder / "models" / "vn")
    assert card.scores["audio"] == final["vn"]["audio"]
    samples = read_samples(folder)
    assert set(samples) == set(CODES)
    assert samples["vn"].facts["title"] in card.split["test"]
