"""Final evaluation: choose each instrument's model, score it once on the test titles, keep audio samples, save it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from sepsearch.audio.separation import separate_waveform
from sepsearch.data.prepared import PreparedData
from sepsearch.evaluation.audio_samples import write_sample
from sepsearch.evaluation.test_scores import Candidate, ClipScore, TestTitles, audio_table, typical_clip
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, save_model, trained_on
from sepsearch.runs.record import Settings
from sepsearch.runs.results import LEFT_OUT
from sepsearch.search.finalist_weights import read_weights
from sepsearch.search.retraining import FinalPlan, FoldPlan
from sepsearch.search.selection import Choice, SeedRun, choose_model

# Protocol of an instrument's test scores, by the rule of its split ("" for none).
PROTOCOLS = {
    "": "test titles",
    "few titles": "half a title",
    "one title": "clips of one title",
    "shared clips": "clips it was trained on",
}


@dataclass(frozen=True)
class _Evaluation:
    """A chosen model, with the networks that are scored for it and the test ratio of each."""

    code: str
    choice: Choice
    candidates: Sequence[Candidate]
    ratios: Sequence[float]
    protocol: str


def score_models(
    settings: Settings,
    prepared: PreparedData,
    finals: FinalPlan,
    folds: FoldPlan,
    folder: Path,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose each instrument's model on validation data, score it once on test titles, save it with an audio sample.

    Args:
        finals, folds: plans that have finished.
        folder: of the run; gets `models`/<instrument> and `samples`/<instrument>.
        advance: called with the number of pieces done.

    Returns:
        `final` and `reference_final` of `results.json`.
    """
    titles = TestTitles(prepared.recordings, prepared.shards, prepared.index, prepared.rows)
    evaluations = [
        evaluation
        for code in settings.instruments
        for evaluation in _evaluations(code, prepared, titles, finals, folds)
    ]
    clip_scores = iter(
        titles.listen([candidate for evaluation in evaluations for candidate in evaluation.candidates], advance)
    )
    final: dict[str, Any] = {}
    reference_final: dict[str, Any] = {}
    for evaluation in evaluations:
        scores = [(score, candidate) for candidate in evaluation.candidates for score in next(clip_scores)]
        row = _row(evaluation, prepared, [score for score, _ in scores])
        if evaluation.code not in final:
            network = load_weights(evaluation.choice.run, evaluation.code, evaluation.code)
            card = model_card(evaluation.code, settings.name, prepared, evaluation.choice, row)
            save_model(folder / "models" / evaluation.code, network, card)
            _write_sample(folder / "samples" / evaluation.code, evaluation.code, titles, prepared, scores)
            final[evaluation.code] = {**row, "model_uri": str(folder / "models" / evaluation.code)}
        if evaluation.choice.finalist.reference and evaluation.code not in reference_final:
            reference_final[evaluation.code] = row
    return final, reference_final


def _evaluations(
    code: str, prepared: PreparedData, titles: TestTitles, finals: FinalPlan, folds: FoldPlan
) -> list[_Evaluation]:
    """The instrument's model and then the reference network's, or one where they are the same."""
    chosen = choose_model(finals.runs, code, finals.finalists)
    opponent = choose_model(finals.runs, code, [finalist for finalist in finals.finalists if finalist.reference])
    choices = [choice for n, choice in enumerate((chosen, opponent)) if choice and not (n and choice == chosen)]
    evaluations = [_ordinary(code, choice, prepared, titles) for choice in choices]
    if chosen and (left_out := _left_out(code, chosen, prepared, titles, folds)):
        evaluations[0] = left_out
    return evaluations


def _ordinary(code: str, choice: Choice, prepared: PreparedData, titles: TestTitles) -> _Evaluation:
    pairs = prepared.examples[code]["test"]
    network = load_weights(choice.run, code, code)
    ratio = titles.ratio(network, pairs, prepared.baselines["test"]["identity"][code])
    return _Evaluation(
        code, choice, [Candidate(code, network, pairs)], [ratio], PROTOCOLS[prepared.rules.get(code, "")]
    )


def _left_out(
    code: str, choice: Choice, prepared: PreparedData, titles: TestTitles, folds: FoldPlan
) -> _Evaluation | None:
    """The same configuration, trained without each title in turn; None unless all of these trainings finished."""
    mine = [fold for fold in prepared.folds if fold.instrument == code]
    runs = [folds.runs.get(fold.id) for fold in mine]
    if not mine or not all(run and run.weights for run in runs):
        return None
    candidates, ratios = [], []
    for fold, run in zip(mine, runs, strict=True):
        assert run is not None
        network = load_weights(run, fold.id, code)
        candidates.append(Candidate(code, network, fold.splits["test"]))
        ratios.append(titles.ratio(network, fold.splits["test"], prepared.fold_identity[fold.id]["test"]))
    return _Evaluation(code, choice, candidates, ratios, LEFT_OUT)


def load_weights(run: SeedRun, member: str, instrument: str) -> nn.Module:
    """A network of a finished run, in evaluation mode on the CPU.

    Raises:
        UserError: its weights are missing or damaged.
    """
    assert run.weights is not None
    network = make_network(make_config(run.finalist.params))
    network.load_state_dict(read_weights(run, member, "go on with --resume, which trains them again"))
    return network.eval()


def _row(evaluation: _Evaluation, prepared: PreparedData, scores: Sequence[ClipScore]) -> dict[str, Any]:
    """Scores of an instrument, as `final` of `results.json` has them."""
    choice, run, code = evaluation.choice, evaluation.choice.run, evaluation.code
    member = run.members[code]
    audio = audio_table(scores)
    ratios = [ratio for ratio in evaluation.ratios if math.isfinite(ratio)]
    return {
        "params": choice.finalist.params,
        "configuration": choice.finalist.id,
        "seed": run.seed,
        "seeds": list(choice.seeds),
        "epoch": member.epoch,
        "identity_loss": prepared.baselines["validation"]["identity"][code],
        "val_loss": member.val_loss,
        "ratio": member.ratio,
        "ratio_mean": choice.ratio_mean,
        "ratio_sd": choice.ratio_sd,
        "ratio_interval": choice.interval,
        "protocol": evaluation.protocol,
        "test_ratio": fmean(ratios) if ratios else None,
        "si_sdr_gain_db": audio["gain"]["si_sdr_db"],
        "audio": audio,
        "discontinuities": choice.discontinuities,
        "model_uri": str(run.weights / f"{code}.safetensors") if run.weights else None,
    }


def _write_sample(
    folder: Path, code: str, titles: TestTitles, prepared: PreparedData, scores: Sequence[tuple[ClipScore, Candidate]]
) -> None:
    """Write the instrument's median clip; nothing where it never plays with others in the test titles."""
    clip = typical_clip([score for score, _ in scores])
    if clip is None:
        return
    network = next(candidate.network for score, candidate in scores if score is clip)
    mixture, target = titles.waveforms(code, clip)
    front_end, constant = prepared.shards.front_end, prepared.shards.constant
    write_sample(
        folder,
        network=network,
        front_end=front_end,
        constant=constant,
        mixture=mixture,
        target=target,
        estimate=separate_waveform(network, front_end, constant, mixture),
        facts=titles.facts(code, clip),
    )


def model_card(code: str, search: str, prepared: PreparedData, choice: Choice, row: Mapping[str, Any]) -> ModelCard:
    """Card of a model: front end, split, baselines, scores and origin."""
    return ModelCard(
        instrument=code,
        config=make_config(choice.finalist.params),
        front_end=prepared.shards.front_end,
        constant=prepared.shards.constant,
        split=prepared.split.titles(),
        baselines={split: {n: of[code] for n, of in table.items()} for split, table in prepared.baselines.items()},
        scores={key: value for key, value in row.items() if key not in ("params", "seeds", "model_uri")},
        caveat=prepared.caveats.get(code, ""),
        fingerprint=prepared.shards.fingerprint,
        seeds=choice.seeds,
        seed=choice.run.seed,
        search=search,
        data=trained_on(prepared.dataset()),
    )
