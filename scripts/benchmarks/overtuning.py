"""How many of a space's trials fail, and how often a search's chosen trial is worse on test titles than its first.

    python scripts/benchmarks/overtuning.py [--space search_spaces/laptop.yaml] [--configurations 36] [--searches 2000]

Random configurations of the space are trained on the demo ensemble, each to the last epoch, and judged on validation
and on test titles. From them searches are drawn: each takes the space's number of trials in an order of its own, stops
them at the space's rungs by their validation ratios, and chooses the best one that reached the last epoch. Nothing is
chosen by test titles. After "Overtuning in hyperparameter optimization" (Schneider et al., 2025), which found a tenth.
"""

import argparse
import copy
import dataclasses
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from sepsearch.data.dataset import Dataset
from sepsearch.data.demo.rendering import demo_folder
from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import PreparedData, gather_data
from sepsearch.models.families import make_config
from sepsearch.search.sampling.optuna_space import make_sampler, suggest
from sepsearch.search.stopping.asha import Rungs
from sepsearch.simulation.comparison import proportion
from sepsearch.spaces.space import Space, load_space
from sepsearch.training.loop import fit
from sepsearch.training.members import Member, TrainingFailed

SPACE = Path(__file__).resolve().parents[2] / "search_spaces" / "laptop.yaml"
SEED = 0


def draw(space: Space, count: int) -> list[dict[str, Any]]:
    """Random complete configurations."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = []
    for number in range(count):
        study = optuna.create_study(sampler=make_sampler(space, SEED, number, "random"))
        found.append(space.complete(suggest(space, study.ask())))
    return found


class Trainer:
    """What a process trains configurations on: the demo ensemble, judged on validation titles and on test titles."""

    def __init__(self, space: Space, codes: tuple[str, ...] | None):
        recordings, shards = prepare(demo_folder(), space.front_end.resolve(), lambda *step: None)
        validation = space.search.validation_examples
        prepared = gather_data(recordings, shards, codes, SEED, space.split.fractions, validation)
        self.data, self.test = prepared.training_data(), test_data(prepared)
        self.members = [Member(code, SEED) for code in prepared.examples]

    def train(self, params: dict[str, Any], epochs: int, examples: int) -> dict[str, Any]:
        """Validation ratios of all epochs, the test ratio of the last one, and how many networks are dead in it."""
        config, ratios, state = make_config(params), [], None
        batches = max(1, round(examples / config.training.batch_size))
        options: dict[str, Any] = {"epochs": epochs, "batches_per_epoch": batches}
        try:
            for result in fit(config, self.data, self.members, **options):
                ratios.append(result.ratio)
                if result.epoch == epochs - 1:
                    state = copy.deepcopy(result.state())
            # The last epoch once more, from the one before it: the same weights, judged on the other titles.
            (again,) = fit(config, self.test, self.members, **options, state=state)
        except TrainingFailed as failure:
            return {"failed": str(failure)}
        dead = sum(member.dead for member in result.members)
        return {"ratios": ratios, "test": again.ratio, "dead": dead, "networks": len(self.members)}


def test_data(prepared: PreparedData) -> Dataset:
    """The training data with test examples in place of validation examples."""
    data = prepared.training_data()
    examples = {
        code: {**data.examples[code], "validation": prepared.examples[code]["test"]} for code in prepared.examples
    }
    return dataclasses.replace(data, examples=examples, identity=dict(prepared.baselines["test"]["identity"]))


trainer: Trainer | None = None  # of a process


def begin_process(space: Path, codes: tuple[str, ...] | None) -> None:
    """Load the data once."""
    global trainer
    torch.set_num_threads(1)
    trainer = Trainer(load_space(space), codes)


def train(params: dict[str, Any], epochs: int, examples: int) -> dict[str, Any]:
    """Train a configuration in this process."""
    assert trainer
    return trainer.train(params, epochs, examples)


def search(trained: list[dict[str, Any]], space: Space, order: list[int]) -> tuple[float, float, bool]:
    """Test ratios of the first trial and of the chosen one, and whether they are the same; trials one by one."""
    epochs = len(trained[order[0]]["ratios"])
    rungs = Rungs(space.search.grace_epochs, space.search.reduction_factor, epochs)
    ended = {}
    for number in order:
        ratios = trained[number]["ratios"]
        if all(rungs.report(str(number), epoch, ratio) is None for epoch, ratio in enumerate(ratios, 1)):
            ended[number] = ratios[-1]
    chosen = min(ended, key=ended.__getitem__)
    return trained[order[0]]["test"], trained[chosen]["test"], chosen == order[0]


def report(trained: list[dict[str, Any]], space: Space, searches: int) -> str:
    """The figures in words."""
    good = [one for one in trained if "failed" not in one]
    failed, dead = len(trained) - len(good), sum(one["dead"] for one in good)
    networks = sum(one["networks"] for one in good)
    low, high = proportion(failed, len(trained))
    trials = min(space.search.trials, len(good))
    rng = np.random.default_rng(SEED)
    found = [search(good, space, rng.permutation(len(good))[:trials].tolist()) for _ in range(searches)]
    worse = sum(chosen > first for first, chosen, _ in found)
    ends = [(one["ratios"][-1], one["test"]) for one in good]
    return "\n".join(
        [
            f"{failed} of {len(trained)} trials failed ({low:.1%} to {high:.1%} with 95 % confidence);"
            f" {dead} of {networks} networks of the others were dead at the end",
            f"{searches} searches of {trials} trials: the chosen one is worse on test titles than the first in {worse}"
            f" ({worse / searches:.0%}), the same in {sum(same for *_, same in found)}; mean test ratio of the first"
            f" {fmean(first for first, *_ in found):.3f}, of the chosen one {fmean(f[1] for f in found):.3f}",
            f"correlation of validation and test ratios at the end: {np.corrcoef(np.array(ends).T)[0, 1]:.2f}"
            f" (n = {len(ends)})",
        ]
    )


def main() -> None:
    """Train, draw searches, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--configurations", type=int, default=36)
    parser.add_argument("--searches", type=int, default=2000)
    parser.add_argument("--instruments", help="such as vn,vc; all by default")
    parser.add_argument("--epochs", type=int, help="the space's by default; at least 2")
    parser.add_argument("--examples", type=int, help="of every instrument per epoch; the space's by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file for what was trained; what it holds is not trained again")
    options = parser.parse_args()
    space, kept = load_space(options.space), options.keep
    codes = tuple(options.instruments.split(",")) if options.instruments else None
    trained: list[dict[str, Any]] = json.loads(kept.read_text()) if kept and kept.exists() else []
    epochs, examples = options.epochs or space.search.epochs, options.examples or space.search.examples_per_epoch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, begin_process, (options.space, codes)) as pool:
        todo = draw(space, options.configurations)[len(trained) :]
        for one in pool.map(train, todo, [epochs] * len(todo), [examples] * len(todo)):
            trained.append(one)
            if kept:
                kept.write_text(json.dumps(trained))
            print(f"{len(trained)} of {options.configurations} trained", file=sys.stderr, flush=True)
    print(report(trained, space, options.searches))


if __name__ == "__main__":
    main()
