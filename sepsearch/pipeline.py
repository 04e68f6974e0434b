"""The way of one search, stage by stage: trials, finalists, scores. `run.py` is its command line."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.config import Space
from sepsearch.errors import UserError
from sepsearch.history import History
from sepsearch.journal import Journal
from sepsearch.material import Material, Settings
from sepsearch.model_folder import ModelCard, save_model
from sepsearch.network import make_config, make_network
from sepsearch.retrain import Choice, Finalist, FinalPlan, choose_finalists, choose_model
from sepsearch.rungs import Rungs
from sepsearch.sampling import Sampler
from sepsearch.scoring import TestTitles
from sepsearch.search import SearchPlan, best_trials

if TYPE_CHECKING:
    from sepsearch.plan import StopSignal, Workers
    from sepsearch.store import StoredData
    from sepsearch.trial import Task


def search_task(
    settings: Settings, space: Space, material: Material, workers: "Workers", stored: "StoredData", folder: Path
) -> "Task":
    """What all workers of a search have in common; `folder` is the run's."""
    from sepsearch.trial import Task

    most = max(len(sides["train"]) for sides in material.examples.values())
    return Task(
        data=stored,
        instruments=settings.instruments,
        epochs=settings.epochs,
        examples_per_epoch=min(space.search.examples_per_epoch, most),
        threads=max(1, int(workers.cpus)),
        gpu=workers.gpus > 0,
        checkpoints=(folder / "checkpoints").absolute(),
    )


@dataclass(frozen=True)
class Stages:
    """The stages that need Ray, with what they share.

    Args:
        folder: of the run.
        task: of the search's workers (`search_task`).
        tick: called a few times a second while a stage runs.
        past: what earlier processes did of the run.
        retries: how often a unit is tried again after its worker died.
    """

    settings: Settings
    space: Space
    material: Material
    journal: Journal
    folder: Path
    workers: "Workers"
    task: "Task"
    stop: "StopSignal"
    tick: Callable[[], None]
    past: History
    retries: int

    def _train(self, **changes: Any) -> Callable[[dict[str, Any]], None]:
        """What a worker runs for one unit, with the stage's task bound to it."""
        from ray import tune

        from sepsearch.trial import train_unit

        return tune.with_parameters(train_unit, task=dataclasses.replace(self.task, **changes))

    def search(self, **changes: Any) -> SearchPlan:
        """Run the trials, or what is left of them; `changes` replace fields of the workers' task."""
        settings, search = self.settings, self.space.search
        sampler = Sampler(self.space, self.folder / "study.log", settings.name, settings.seed)
        plan = SearchPlan(
            sampler,
            Rungs(search.grace_epochs, search.reduction_factor, settings.epochs),
            self.journal,
            settings.trials,
            settings.epochs,
            settings.seed,
            retries=self.retries,
            spared_share=search.spared_share,
            checkpoints=self.task.checkpoints,
        )
        try:
            self._run("search", plan, self._train(**changes))
        finally:
            sampler.close("interrupted")
        return plan

    def _run(self, name: str, plan: SearchPlan | FinalPlan, train: Callable[[dict[str, Any]], None]) -> None:
        from sepsearch.stage import run_stage

        if self.past.events:
            plan.restore(self.past.events)
            plan.resume()
        if not plan.finished():
            run_stage(name, plan, train, self.workers, self.folder / "ray", self.stop, self.tick)

    def choose(self, plan: SearchPlan, seconds: float) -> list[Finalist]:
        """The finalists of a search that is over; raises `UserError` if it had no time for its first trial."""
        if "t0000" not in plan.trials:
            raise UserError("the time budget was over before the first trial began: give it more with --time-budget")
        best = best_trials(list(plan.trials.values()), self.space.final.configurations)
        finalists = choose_finalists(best, plan.trials["t0000"])
        configurations = [dataclasses.asdict(finalist) for finalist in finalists]
        self.journal.append("finalists", configurations=configurations, seconds=seconds)
        return finalists

    def retrain(self, finalists: list[Finalist], **changes: Any) -> FinalPlan:
        """Train every finalist with every seed, or what is left of that; none of them is the search's own seed."""
        seeds = [self.settings.seed + 1 + number for number in range(self.space.final.seeds)]
        epochs, folder = self.settings.final_epochs, self.folder / "finalists"
        plan = FinalPlan(
            finalists, seeds, self.journal, folder, epochs, retries=self.retries, checkpoints=self.task.checkpoints
        )
        self._run("finalists", plan, self._train(epochs=epochs, weights=folder.absolute(), **changes))
        return plan


def score_models(
    settings: Settings, material: Material, finalists: list[Finalist], plan: FinalPlan, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose each instrument's model on validation data, score it once on the test titles, and save it.

    Returns:
        `final` and `reference_final` of `results.json`; models lie in `folder`/<instrument>.
    """
    titles = TestTitles(material.recordings, material.shards, material.index, material.rows)
    pairs = {code: material.examples[code]["test"] for code in settings.instruments}
    choices = {code: _choices(plan, finalists, code) for code in settings.instruments}
    networks = {code: [load_weights(choice, code) for choice in chosen] for code, chosen in choices.items()}
    gains = titles.si_sdr_gains(networks, pairs)
    final: dict[str, Any] = {}
    reference_final: dict[str, Any] = {}
    for code, chosen in choices.items():
        identity_loss = material.baselines["test"]["identity"][code]
        for choice, network, gain in zip(chosen, networks[code], gains[code], strict=True):
            score = _score(choice, code, material, titles.ratio(network, pairs[code], identity_loss), gain)
            if choice == chosen[0]:
                save_model(folder / code, network, model_card(code, settings, material, choice, score))
                final[code] = {**score, "model_uri": str(folder / code)}
            if choice == chosen[-1] and choice.finalist.reference:
                reference_final[code] = score
    return final, reference_final


def _choices(plan: FinalPlan, finalists: list[Finalist], code: str) -> list[Choice]:
    """The instrument's model and, behind it, the report's; one alone where they are the same."""
    chosen = choose_model(plan.runs, code, finalists)
    opponent = choose_model(plan.runs, code, [finalist for finalist in finalists if finalist.reference])
    return [choice for n, choice in enumerate((chosen, opponent)) if choice and not (n and choice == chosen)]


def load_weights(choice: Choice, instrument: str) -> Any:
    """The network of a finished run, in evaluation mode on the CPU."""
    from safetensors.torch import load_file

    assert choice.run.weights is not None
    network = make_network(make_config(choice.finalist.params))
    network.load_state_dict(load_file(choice.run.weights / f"{instrument}.safetensors"))
    return network.eval()


def _score(choice: Choice, code: str, material: Material, test_ratio: float, gain: float) -> dict[str, Any]:
    member = choice.run.members[code]
    return {
        "params": choice.finalist.params,
        "seeds": list(choice.seeds),
        "identity_loss": material.baselines["validation"]["identity"][code],
        "val_loss": member.val_loss,
        "ratio": member.ratio,
        "ratio_mean": choice.ratio_mean,
        "ratio_sd": choice.ratio_sd,
        "test_ratio": test_ratio if math.isfinite(test_ratio) else None,
        "si_sdr_gain_db": gain if math.isfinite(gain) else None,
        "discontinuities": choice.discontinuities,
        "model_uri": str(choice.run.weights / f"{code}.safetensors") if choice.run.weights else None,
    }


def model_card(
    code: str, settings: Settings, material: Material, choice: Choice, score: Mapping[str, Any]
) -> ModelCard:
    """All that a model needs to be used and judged with nothing else at hand."""
    return ModelCard(
        instrument=code,
        config=make_config(choice.finalist.params),
        front_end=material.shards.front_end,
        constant=material.shards.constant,
        split=material.split.titles(),
        baselines={side: {n: row[code] for n, row in rows.items()} for side, rows in material.baselines.items()},
        scores={key: value for key, value in score.items() if key not in ("params", "seeds", "model_uri")},
        caveat=material.caveats.get(code, ""),
        fingerprint=material.shards.fingerprint,
        seeds=choice.seeds,
        seed=choice.run.seed,
        search=settings.name,
    )
