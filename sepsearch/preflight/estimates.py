"""How long a search will take and how much it will write, from a few batches of its corner configurations."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean, median

from sepsearch.preflight.corner_configurations import complete_corner
from sepsearch.search.protocol import Params
from sepsearch.search.stopping.forecast import expected_epochs
from sepsearch.spaces.configurations import sampled_names
from sepsearch.spaces.space import PAUSING, Space
from sepsearch.utils.formatting import duration, size

STATES = 4  # numbers kept per trainable one: itself, its gradient or best value, Adam's two moments
NUMBER_BYTES = 4
# Written per epoch and network, as a search of 56 epochs of 13 networks left them: 290 and 2,400 bytes, and figures.
JOURNAL_BYTES = 400
TRACKING_BYTES = 4000
SAME = 0.25  # single batches jump by about so much: closer times count as equal


@dataclass(frozen=True)
class Measured:
    """What one corner's training took in a worker.

    Args:
        params: the configuration.
        training: seconds per training example of one network.
        evaluation: seconds per validation example of one network.
        host_bytes: of memory of the worker while it trains all of a unit's networks, shared memory left out.
        gpu_bytes: the same on the GPU; 0 without one.
    """

    params: Params
    training: float
    evaluation: float
    host_bytes: int
    gpu_bytes: int = 0


@dataclass(frozen=True)
class Job:
    """What has to be done: numbers of a run that decide how long it takes and what it writes.

    Args:
        space: what is searched, and by which rungs.
        trials: how many.
        epochs: the full budget of a trial.
        final_epochs: that of a finalist.
        networks: of a job, one per instrument.
        training_examples: per network and epoch.
        validation_examples: per network and epoch.
        concurrent: jobs at once.
    """

    space: Space
    trials: int
    epochs: int
    final_epochs: int
    networks: int
    training_examples: int
    validation_examples: int
    concurrent: int

    @property
    def final_units(self) -> int:
        """Finalists and the reference, each with every seed; there are no more finalists than trials."""
        return min(self.space.final.configurations + 1, self.trials) * self.space.final.seeds


@dataclass(frozen=True)
class Times:
    """Seconds: an epoch and a whole trial of the reference, the search (at most its budget), the finalists.

    `fitting` is how many trials fit in the time budget; None without one.
    """

    epoch: float
    trial: float
    search: float
    finalists: float
    fitting: int | None = None


@dataclass(frozen=True)
class Disk:
    """Bytes: `checkpoints` (and finalists' weights and models) at most, the journal and the tracking store about."""

    checkpoints: int
    journal: int
    tracking: int


@dataclass(frozen=True)
class Forecast:
    """What preflight found for so many trials. `times` is None where no corner was tried.

    `corners`: how many were tried, and how many there are.

    `memory` is that of one worker at the corner that needs most, in bytes, on the GPU where there is one; `notes` are
    lines for the user, none of which stops the run.
    """

    disk: Disk
    trials: int
    corners: tuple[int, int] = (0, 0)
    memory: int = 0
    times: Times | None = None
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """All in one line for people."""
        parts = [f"checkpoints at most {size(self.disk.checkpoints)}"]
        if self.times is not None:
            times = self.times
            search = f"search about {duration(times.search)}"
            if times.fitting is not None and times.fitting < self.trials:
                search += f" (about {times.fitting} of {self.trials} trials fit in the time budget)"
            epoch = f"about {duration(times.epoch)} an epoch, {search}, finalists about {duration(times.finalists)}"
            tried, there = self.corners
            of = f" of {there}" if tried < there else ""
            parts = [f"{tried}{of} corner configurations tried, all fit (largest {size(self.memory)})", epoch, *parts]
        return f"preflight: {'; '.join(parts)}"


def forecast_times(measured: Sequence[Measured], job: Job, startup: float, budget: float | None = None) -> Times:
    """Times of a run; see `Times`.

    Args:
        measured: the reference first, then corners; those that differ from the reference in one parameter count.
        job: what is to be done.
        startup: seconds from asking for a worker until its first batch.
        budget: of the search, in seconds.
    """
    reference, typical = _two_epochs([(m.params, epoch_seconds(m, job)) for m in measured], job.space)

    epochs = expected_epochs(job.trials, job.epochs, job.space)

    def search(trials: int) -> float:
        work = job.epochs * reference + max(0.0, epochs[trials - 1] - job.epochs) * typical
        workers = min(job.concurrent, trials)
        # At the end workers wait for the last trials: on average for half of one.
        waiting = work / trials / 2 * (1 - 1 / workers)
        return startup + max(work / workers + waiting, job.epochs * reference)

    seconds = search(job.trials)
    fitting = None
    if budget is not None:
        fitting = bisect.bisect_right(range(1, job.trials + 1), budget, key=search)
        seconds = min(seconds, budget)
    waves = math.ceil(job.final_units / job.concurrent)
    own = job.space.final.configurations
    mean = (own * typical + reference) / (own + 1)
    finalists = startup + waves * job.final_epochs * mean
    return Times(reference, job.epochs * reference, seconds, finalists, fitting)


def epoch_seconds(measured: Measured, job: Job) -> float:
    """Seconds of one epoch of one job, validation included."""
    size = int(measured.params["batch_size"])
    examples = max(1, round(job.training_examples / size)) * size
    return job.networks * (examples * measured.training + job.validation_examples * measured.evaluation)


def _two_epochs(seconds: Sequence[tuple[Params, float]], space: Space) -> tuple[float, float]:
    """Seconds of an epoch of the reference, and on average over the space, from those of corners, the reference first.

    Effects of several parameters are taken to multiply, and every parameter's is the mean over its choices, or over
    both ends of its range. Conditional parameters count as the reference has them, other families by all their corners.
    Most parameters hardly change the time, so the median corner is what ratios are taken to: a mistake in one time
    would count once a parameter.
    Where some parameter was not tried alone it is the middle of the corners at the ends of several ranges at once.
    """
    usual = complete_corner(space, {})
    apart = [_differing(space, params, usual) for params, _ in seconds]
    near = [
        value for (_, value), names in zip(seconds, apart, strict=True) if len(names) <= 1 and "family" not in names
    ]
    base = median(near or [value for _, value in seconds])
    typical = base
    for name, parameter in space.parameters.items():
        values = parameter.ends if parameter.choices is None else parameter.choices
        alone = [sample for sample, names in zip(seconds, apart, strict=True) if names == [name]]
        ratios = [_ratio(value, base) for params, value in alone if params[name] in values]
        if usual.get(name) in values:
            ratios.append(next((_ratio(value, base) for params, value in seconds if params == usual), 1.0))
        if ratios:
            typical *= fmean(ratios)
    ends = [_ratio(value, base) for (_, value), names in zip(seconds, apart, strict=True) if len(names) > 1]
    if ends and not space.parameters.keys() <= {name for names in apart if len(names) == 1 for name in names}:
        typical = base * geometric_mean(ends)
    return base * _ratio(seconds[0][1], base), typical


def _differing(space: Space, params: Params, usual: Params) -> list[str]:
    """The parameters of a space that two configurations have differently, of those that are sampled for both.

    A network of a family that the space does not have differs in its family and in all of them.
    """
    if params["family"] not in space.families:
        return ["family", *(name for name in space.parameters if name != "family")]
    both = set(sampled_names(space, params)) & set(sampled_names(space, usual))
    return [name for name in space.parameters if name in both and params[name] != usual[name]]


def _ratio(seconds: float, base: float) -> float:
    """How many times as long; 1 for times that are equal within what single batches jump by."""
    return seconds / base if abs(seconds / base - 1) > SAME else 1.0


def forecast_disk(parameters: int, job: Job) -> Disk:
    """Bytes that a run writes if every network has so many trainable numbers."""
    weights = job.networks * parameters * NUMBER_BYTES
    # A unit's checkpoint is replaced every epoch, the new one whole before the old one goes.
    paused = job.trials if job.space.search.stopping in PAUSING else 0
    checkpoints = (2 * job.concurrent + paused) * STATES * weights
    # The best weights of every finalist; the chosen models once in the run's folder and once in the registry's.
    kept = (job.final_units + 1) * weights
    epochs = expected_epochs(job.trials, job.epochs, job.space)[-1] + job.final_units * job.final_epochs
    lines = math.ceil(epochs) * job.networks
    return Disk(checkpoints + kept, lines * JOURNAL_BYTES, weights + lines * TRACKING_BYTES)
