"""Final evaluation: choose each instrument's model, score it and the other finalists on the test titles, save it."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from torch import nn

from sepsearch.audio.separation import separate_waveform
from sepsearch.data.prepared import PreparedData
from sepsearch.evaluation.audio_samples import CandidateEstimate, write_sample
from sepsearch.evaluation.model_cards import model_card
from sepsearch.evaluation.named_players import nameable, named_ratios
from sepsearch.evaluation.test_scores import Candidate, ClipScore, TestTitles, audio_table, over_titles, typical_clip
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import save_model
from sepsearch.runs.record import Settings
from sepsearch.runs.results import LEFT_OUT
from sepsearch.search.finalist_weights import read_weights
from sepsearch.search.retraining import FinalPlan, FoldPlan
from sepsearch.search.selection import Choice, SeedRun, choose_model
from sepsearch.utils.progress import Steps, in_threads, one_torch_thread

# Protocol of an instrument's test scores, by the rule of its split ("" for none).
PROTOCOLS = {
    "": "test titles",
    "few titles": "half a title",
    "one title": "clips of one title",
    "shared clips": "clips it was trained on",
}
# Whose networks separate the others where the players are named: the chosen ones, or the reference network's.
FINAL, REFERENCE = "final", "reference_final"


@dataclass(frozen=True)
class _Evaluation:
    """A chosen model, with the networks that are scored for it and the test ratio of each.

    `network` is its own; `named` is FINAL or REFERENCE → test ratio with the players named.
    """

    code: str
    choice: Choice
    network: nn.Module
    candidates: Sequence[Candidate]
    ratios: Sequence[float]
    protocol: str
    named: Mapping[str, float] = field(default_factory=dict)


_Heard = tuple[_Evaluation, Sequence[tuple[ClipScore, Candidate]]]


class Scores(NamedTuple):
    """Scores by instrument, as `results.json` has them.

    `candidates` has by instrument and then by finalist and seed those of every finalist's best seed, the chosen one's
    among them. They are measured after all choices, so that a person can listen and choose; nothing is chosen by them.
    """

    final: dict[str, dict[str, Any]]
    reference_final: dict[str, dict[str, Any]]
    candidates: dict[str, dict[str, dict[str, Any]]]


def score_models(
    settings: Settings,
    prepared: PreparedData,
    finals: FinalPlan,
    folds: FoldPlan,
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Scores:
    """Choose each instrument's model on validation data, score it once on test titles, save it with an audio sample.

    Args:
        finals, folds: plans that have finished.
        folder: of the run; gets `models`/<instrument> and `samples`/<instrument>.
        progress: called with (stage, steps done, steps in all).
    """
    titles = TestTitles(prepared.recordings, prepared.shards, prepared.index, prepared.rows)
    codes = settings.instruments
    steps = Steps(lambda done, total: progress("losses of the finalists on the test titles", done, total), len(codes))
    with one_torch_thread():
        found = in_threads(lambda code: _evaluations(code, prepared, titles, finals, folds), codes, steps)
        evaluations = _with_players_named([evaluation for of in found for evaluation in of], prepared)
    clip_scores = iter(
        titles.listen(
            [candidate for evaluation in evaluations for candidate in evaluation.candidates],
            lambda done, total: progress("separated audio of the test titles", done, total),
        )
    )
    result = Scores({}, {}, {})
    heard: dict[str, list[_Heard]] = {}
    for evaluation in evaluations:
        scores = [(score, candidate) for candidate in evaluation.candidates for score in next(clip_scores)]
        heard.setdefault(evaluation.code, []).append((evaluation, scores))
        _add_scores(result, evaluation, prepared, scores)
    for code, of in heard.items():
        _save_chosen(folder, of[0][0], prepared, result.final[code], settings.name)
        _write_sample(folder / "samples" / code, code, titles, prepared, of)
    return result


def _add_scores(
    result: Scores, evaluation: _Evaluation, prepared: PreparedData, scores: "Sequence[tuple[ClipScore, Candidate]]"
) -> None:
    """Add an evaluation's row: the first of an instrument is the chosen model's."""
    code, choice = evaluation.code, evaluation.choice
    plain = _row(evaluation, prepared, [score for score, _ in scores])
    if code not in result.final:
        result.final[code] = plain | _named_scores(evaluation, scores, FINAL)
    if choice.finalist.reference and code not in result.reference_final:
        result.reference_final[code] = plain | _named_scores(evaluation, scores, REFERENCE)
    result.candidates.setdefault(code, {})[choice.run.id] = plain


def _save_chosen(
    folder: Path, evaluation: _Evaluation, prepared: PreparedData, row: dict[str, Any], search: str
) -> None:
    """Save an instrument's chosen model with its card, and put its path into its row."""
    code, choice = evaluation.code, evaluation.choice
    apart = ("params", "seeds", "model_uri", "examples_per_second")  # the last is the machine's, not the model's
    card = model_card(
        prepared,
        code,
        choice.finalist.params,
        search=search,
        scores={key: value for key, value in row.items() if key not in apart},
        seeds=choice.seeds,
        seed=choice.run.seed,
    )
    save_model(folder / "models" / code, evaluation.network, card)
    row["model_uri"] = str(folder / "models" / code)


def _evaluations(
    code: str, prepared: PreparedData, titles: TestTitles, finals: FinalPlan, folds: FoldPlan
) -> list[_Evaluation]:
    """The instrument's model, the reference network's, and every other finalist's best seed, each once."""
    chosen = finals.chosen(code)
    reference = [finalist for finalist in finals.finalists if finalist.reference]
    choices: list[Choice] = [chosen] if chosen else []
    for finalists in (reference, *([finalist] for finalist in finals.finalists)):
        choice = choose_model(finals.runs, code, finalists)
        if choice and choice not in choices:
            choices.append(choice)
    evaluations = [_ordinary(code, choice, prepared, titles) for choice in choices]
    if chosen and (left_out := _left_out(code, chosen, prepared, titles, folds)):
        evaluations[0] = left_out
    return evaluations


def _ordinary(code: str, choice: Choice, prepared: PreparedData, titles: TestTitles) -> _Evaluation:
    pairs = prepared.examples[code]["test"]
    network = load_weights(choice.run, code, code)
    ratio = titles.ratio(network, pairs, prepared.baselines["test"]["identity"][code])
    return _Evaluation(
        code, choice, network, [Candidate(code, network, pairs)], [ratio], PROTOCOLS[prepared.rules.get(code, "")]
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
    return _Evaluation(code, choice, load_weights(choice.run, code, code), candidates, ratios, LEFT_OUT)


def _with_players_named(evaluations: Sequence[_Evaluation], prepared: PreparedData) -> list[_Evaluation]:
    """The same with test ratios with the players named, and candidates that are separated so, where that is possible.

    Not where titles were left out in turn: then there are several networks, and others have seen the title.
    """
    found = list(evaluations)
    chosen: dict[str, int] = {}
    for number, one in enumerate(found):
        chosen.setdefault(one.code, number)
    reference = {one.code: number for number, one in enumerate(found) if one.choice.finalist.reference}
    sets = {FINAL: chosen, REFERENCE: reference}
    of = {name: {code: found[number].network for code, number in numbers.items()} for name, numbers in sets.items()}

    def ratios_of(name: str) -> tuple[list[str], dict[str, float]]:
        ordinary = [code for code, number in sets[name].items() if found[number].protocol != LEFT_OUT]
        codes = nameable(prepared, of[name], ordinary)
        return codes, named_ratios(prepared, of[name], codes)

    for name, (codes, ratios) in zip(sets, in_threads(ratios_of, sets), strict=True):
        networks, numbers = of[name], sets[name]
        for code in codes:
            one = found[numbers[code]]
            (candidate,) = one.candidates
            candidate = dataclasses.replace(candidate, ensembles={**candidate.ensembles, name: networks})
            named = {**one.named, name: ratios[code]} if code in ratios else one.named
            found[numbers[code]] = dataclasses.replace(one, candidates=[candidate], named=named)
    return found


def _named_scores(
    evaluation: _Evaluation, scores: Sequence[tuple[ClipScore, Candidate]], ensemble: str
) -> dict[str, float | None]:
    """Scores with the players named, None where there are none: the keys of a row that no choice looks at."""
    gain = over_titles([score for score, _ in scores], lambda score: score.named_gain(ensemble))
    return {"named_test_ratio": evaluation.named.get(ensemble), "named_si_sdr_gain_db": gain}


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
        "choice_reason": choice.reason,
        "parameters": choice.finalist.parameters,
        "examples_per_second": run.speed,
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
        # How little the mask does: an estimate that is the mixture at another level has no limit here.
        "mixture_similarity_db": over_titles(scores, lambda score: score.similarity),
        "audio": audio,
        "discontinuities": choice.discontinuities,
        "model_uri": str(run.weights / f"{code}.safetensors") if run.weights else None,
    }


def _write_sample(
    folder: Path, code: str, titles: TestTitles, prepared: PreparedData, heard: "Sequence[_Heard]"
) -> None:
    """Write the chosen model's median clip, and what the other candidates make of the same clip.

    Nothing where the instrument never plays with others in the test titles.
    """
    (chosen, scores), *others = heard
    clip = typical_clip([score for score, _ in scores])
    if clip is None:
        return
    network = next(candidate.network for score, candidate in scores if score is clip)
    mixture, target = titles.waveforms(code, clip)
    front_end, constant = prepared.shards.front_end, prepared.shards.constant
    candidates = []
    for evaluation, own in others:
        of_clip = [(s, c) for s, c in own if (s.piece, s.clip) == (clip.piece, clip.clip)]
        for score, candidate in of_clip[:1]:
            estimate = separate_waveform(candidate.network, front_end, constant, mixture)
            db = score.db["si_sdr_db"]["estimate"]
            candidates.append(CandidateEstimate(evaluation.choice.run.id, candidate.network, estimate, db))
    write_sample(
        folder,
        network=network,
        front_end=front_end,
        constant=constant,
        mixture=mixture,
        target=target,
        estimate=separate_waveform(network, front_end, constant, mixture),
        facts=titles.facts(code, clip),
        chosen=chosen.choice.run.id,
        candidates=candidates,
    )
