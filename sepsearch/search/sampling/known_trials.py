"""Completed trials of other runs, with which a sampler's study begins."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sepsearch.models.size import known_parameters
from sepsearch.search.events import KnownRun
from sepsearch.search.sampling.optuna_space import distribution
from sepsearch.spaces.configurations import configuration_key, holds, sampled_names
from sepsearch.spaces.points import Point

if TYPE_CHECKING:
    import optuna

    from sepsearch.spaces.space import Space

SOURCE = "source"  # attribute of a trial of the study: the run and the trial that it comes from


@dataclass(frozen=True)
class KnownTrial:
    """A completed trial of another run.

    Args:
        source: run and trial, such as "first/t0012".
        params: the complete configuration.
        ratio: its value at the full budget.
    """

    source: str
    params: Mapping[str, Any]
    ratio: float


def known_trials(runs: Iterable[KnownRun]) -> list[KnownTrial]:
    """The trials of all runs, in their order."""
    return [
        KnownTrial(f"{run['name']}/{trial['id']}", trial["params"], trial["ratio"])
        for run in runs
        for trial in run["trials"]
    ]


def enter_known(study: "optuna.Study", space: "Space", known: Sequence[KnownTrial]) -> None:
    """Add trials to a study as completed, each with its source as an attribute; those outside the space are left out.

    Samplers count them as trials that have ended: TPE makes a model at once where there are as many as its startup.
    """
    from optuna.trial import create_trial

    for trial in known:
        params = dict(trial.params)
        if not holds(space, params):
            continue
        names = sampled_names(space, params)
        study.add_trial(
            create_trial(
                value=trial.ratio,
                params={name: params[name] for name in names},
                distributions={name: distribution(space.parameters[name]) for name in names},
                user_attrs={SOURCE: trial.source},
                constraints=space.constraints.values(known_parameters(params), None, not _is_small(space, params)),
            )
        )


def _is_small(space: "Space", params: Mapping[str, Any]) -> bool:
    """Whether a configuration keeps to the constraint on the number of parameters, as far as that is known."""
    return not space.constraints.violation(known_parameters(params), None)


def best_known(space: "Space", known: Sequence[KnownTrial]) -> KnownTrial | None:
    """The known trial with the smallest ratio that the space holds; of equals the first, None if there is none.

    Those that violate a constraint on the number of parameters are left out.
    """
    inside = [trial for trial in known if holds(space, dict(trial.params)) and _is_small(space, trial.params)]
    return min(inside, key=lambda trial: trial.ratio, default=None)


def first_points(space: "Space", points: Sequence[Point], known: Sequence[KnownTrial]) -> list[Point]:
    """What a search trains first: the points of its space file, then the best known configuration.

    That one is trained again since finalists are chosen among a run's own trials: it would be lost otherwise.
    """
    best = best_known(space, known)
    if best is None:
        return list(points)
    params = dict(best.params)
    key = configuration_key(params)
    if key == configuration_key(space.reference_params()):
        return list(points)
    again = {name: params[name] for name in sampled_names(space, params)}
    return [*points, *([] if again in points else [again])]
