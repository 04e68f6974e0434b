"""Finalists of a run as models to choose among: the weights of one seed and instrument, with a card."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sepsearch.audio.spectrogram import BINS, FRAMES
from sepsearch.models.card import UNSCORED
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, load_model, save_model, trained_on
from sepsearch.runs.job import Job
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.runs.state import RunState, reduce_events
from sepsearch.search.events import SearchEvent
from sepsearch.search.finalist_weights import read_weights
from sepsearch.search.journal import read_run
from sepsearch.search.selection import SeedRun
from sepsearch.tracking.final_models import chosen_run
from sepsearch.training.metrics import mean_and_sd, mean_interval
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.safe_paths import path_below


@dataclass(frozen=True)
class Finals:
    """The finalists of a run: `folder` and `state` are the run's."""

    folder: Path
    state: RunState

    @property
    def search(self) -> SearchEvent:
        """All that the run depends on."""
        return self.state.search

    @property
    def name(self) -> str:
        """Of the run."""
        return self.state.name

    @property
    def runs(self) -> Mapping[str, SeedRun]:
        """Finalists by configuration and seed, such as "c0-s2"."""
        return self.state.finals

    @property
    def trials(self) -> Mapping[str, Job]:
        """The search's trials, by id."""
        return self.state.jobs_of("search")

    @property
    def scores(self) -> Mapping[str, Mapping[str, Any]]:
        """Of the final models, by instrument; empty until they were chosen."""
        return self.state.scored["final"] if self.state.scored else {}

    def chosen(self, code: str) -> str | None:
        """The finalist and seed that the search chose for an instrument."""
        return chosen_run(self.runs, code, self.scores[code]) if code in self.scores else None

    def with_weights(self) -> str:
        """The finalists that can be chosen, for people."""
        found = [f"{self.name}/{id}" for id, run in self.runs.items() if run.weights]
        return ", ".join(found) or "none"


def read_finals(folder: Path) -> Finals:
    """The finalists in the journal of a run's folder; raises `UserError`."""
    path = folder / JOURNAL
    state = reduce_events(read_run(path))
    if not state.search:
        raise UserError(f"{path}: empty, expected a search that has finished: run it again")
    for run in state.finals.values():
        if run.weights:
            run.weights = path_below(folder / "finalists", run.id, path)
    return Finals(folder, state)


def pick_run(finals: Finals, unit: str, code: str) -> SeedRun:
    """The finalist and seed `unit`, if it has weights for an instrument.

    Raises:
        UserError: no such run, a trial, one that failed or was stopped, or an instrument that it was not trained for.
    """
    where = f"{finals.name}/{unit}"
    if unit in finals.trials:
        raise UserError(
            f"{where}: a trial of the search, which keeps no weights; finalists have them: {finals.with_weights()}"
        )
    if unit not in finals.runs:
        raise UserError(f"{where}: no such run, expected one of: {finals.with_weights()}")
    run = finals.runs[unit]
    if not run.weights:
        reason = run.failure or "it has not finished"
        raise UserError(f"{where}: has no weights ({one_line(reason)}), expected one that has: {finals.with_weights()}")
    if code not in run.members:
        raise UserError(f"{where}: not trained for {code}, expected one of: {', '.join(sorted(run.members))}")
    return run


def make_model(finals: Finals, run: SeedRun, code: str, target: Path) -> tuple[Path, ModelCard]:
    """The folder of a finalist's model: the final model's, if the search chose it; else made in `target`.

    Returns:
        The folder, and its card, which says whether test scores were measured.

    Raises:
        UserError: weights are missing or damaged, or no model says how its spectrograms were made.
    """
    if run.id == finals.chosen(code):
        scored = finals.folder / "models" / code
        return scored, load_model(scored)[1]
    weights = read_weights(run, code, "choose another run")
    card = _card(finals, run, code, _any_card(finals))
    network = make_network(card.config)
    network.load_state_dict(weights)
    save_model(target, network, card)
    return target, card


def check_model(folder: Path) -> ModelCard:
    """The card of a model that loads and whose output is finite; raises `UserError` for any other."""
    network, card = load_model(folder)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        voice = network(4 * torch.rand(2, 1, FRAMES, BINS, generator=generator))
    if not bool(voice.isfinite().all()):
        raise UserError(f"{folder}: its output is not finite: choose another run")
    return card


def _any_card(finals: Finals) -> ModelCard:
    """The card of any final model of the run: they share front end and constant."""
    for folder in sorted((finals.folder / "models").glob("*/")):
        try:
            return load_model(folder)[1]
        except UserError:
            continue
    raise UserError(
        f"{finals.folder / 'models'}: no final model there, expected one, for the front end of its spectrograms: "
        f"finish the run first: python -m sepsearch.run --resume {finals.name}"
    )


def _card(finals: Finals, run: SeedRun, code: str, like: ModelCard) -> ModelCard:
    """What is known of a model that was not chosen by the search."""
    search, member = finals.search, run.members[code]
    finished = [one for one in finals.runs.values() if one.finalist == run.finalist and one.weights]
    ratios = [one.members[code].ratio for one in finished]
    mean, sd = mean_and_sd(ratios)
    interval = mean_interval(ratios)
    baselines = {side: {n: row[code] for n, row in rows.items()} for side, rows in search["baselines"].items()}
    scores: dict[str, Any] = {
        "configuration": run.finalist.id,
        "seed": run.seed,
        "epoch": member.epoch,
        "ratio": member.ratio,
        "val_loss": member.val_loss,
        "identity_loss": baselines["validation"]["identity"],
        "ratio_mean": mean,
        "ratio_sd": sd,
        "ratio_interval": list(interval) if interval else None,
        "discontinuities": sum(one.members[code].discontinuities for one in finished),
    }
    caveat = search["caveats"].get(code, "")
    return ModelCard(
        instrument=code,
        config=make_config(run.finalist.params),
        front_end=like.front_end,
        constant=like.constant,
        split=search["dataset"]["split"],
        baselines=baselines,
        scores=scores,
        caveat=f"{caveat}; {UNSCORED}" if caveat else UNSCORED,
        fingerprint=search["dataset"]["fingerprint"],
        seeds=tuple(sorted(one.seed for one in finished)),
        seed=run.seed,
        search=finals.name,
        data=trained_on(search["dataset"]),
    )
