"""Where the sampler's study is kept: a file that optuna-dashboard opens, and what samplers see of it.

The file says what happened: a trial that was stopped early is PRUNED, with its intermediate values. Samplers see a
window of its trials, and a stopped one as completed with the value that is reported for it (`SAMPLER_VALUE`). A
proposal that was not trained because it violates a constraint is PRUNED without values; samplers see it as completed,
infeasible, with the median value of the others.
"""

import bisect
import copy
import errno
import json
import math
import os
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from sepsearch.utils.errors import no_space
from sepsearch.utils.files import sync_folder

# How many of the trials that have ended samplers see, the best and the latest. TPE takes at most 25 for good ones, and
# gives the others the less weight the older they are. A search of fewer trials is seen whole.
WINDOW = (100, 400)

SAMPLER_VALUE = "sampler_value"  # attribute of a stopped trial: the value that samplers see in place of an own one
DRAWN = "tpe:relative_params:"
_number = attrgetter("number")


class LogFile(BaseJournalBackend):
    """Optuna's journal in a file that one process writes and no process of the search reads back.

    Optuna's own backend takes a lock, waits for the disk and reads the line again in each of about twenty operations a
    trial. The study follows from the run's journal, which waits for the disk and has a lock.

    Args:
        path: a file, appended to; None keeps the study in memory alone.

    Raises:
        UserError: the file cannot be opened.
    """

    def __init__(self, path: Path | None):
        self._path = path
        try:
            self._file = None if path is None else path.open("ab", buffering=0)
        except OSError as error:
            raise no_space(error, path) from error
        self._unread: list[dict[str, Any]] = []
        self.changed: set[int] = set()  # ids of trials that were written about; `StudyLog` clears it

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations, one JSON object a line; raises `UserError` if the disk is full."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        if self._file is not None and self._path is not None:
            text = ("\n".join(lines) + "\n").encode()
            try:
                if self._file.write(text) != len(text):
                    raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise no_space(error, self._path) from error
        self._unread += map(json.loads, lines)
        self.changed.update(log["trial_id"] for log in logs if "trial_id" in log)

    def sync(self) -> None:
        """Have the file outlast a power cut: once a search is over, no resumed run rebuilds it. Raises `UserError`."""
        if self._file is not None and self._path is not None:
            try:
                os.fsync(self._file.fileno())
                sync_folder(self._path.parent)
            except OSError as error:
                raise no_space(error, self._path) from error

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """What was written since this was asked last."""
        unread, self._unread = self._unread, []
        return unread


class StudyLog(JournalStorage):
    """Optuna's journal storage whose `get_all_trials` are those a sampler needs: however long the search, not more.

    They are as the file has them; `SamplerView` has them as samplers see them. That are all that run, and the best and
    the latest of those that ended; which these are does not depend on the order in which they ended. Of those that
    failed, which no sampler looks at, it is the latest.

    Args:
        path: see `LogFile`.
        best: how many of the best.
        latest: how many of the latest.
    """

    def __init__(self, path: Path | None, best: int, latest: int):
        self._log = LogFile(path)
        super().__init__(self._log)
        self._most = {"best": best, "latest": latest}
        self._best: list[tuple[tuple[float, ...], FrozenTrial]] = []  # sorted, the best first
        self._latest: list[FrozenTrial] = []  # sorted by number
        self._failed: deque[FrozenTrial] = deque(maxlen=latest)
        self._open: dict[int, FrozenTrial] = {}  # those that wait or run, by id
        self._drawn: dict[int, FrozenTrial] = {}  # the same as samplers see them
        self._ended: list[FrozenTrial] | None = None
        self._seen_ended: list[FrozenTrial] = []  # the same as samplers see them
        self.seen = 0  # how many trials it has handed out altogether

    def sync(self) -> None:
        """Have the study's file outlast a power cut. Raises `UserError`."""
        self._log.sync()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Also put it where it belongs."""
        trial_id: int = super().create_new_trial(study_id, template_trial)
        self._place(trial_id)
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Also put it where it belongs now."""
        done: bool = super().set_trial_state_values(trial_id, state, values)
        self._place(trial_id)
        return done

    def _place(self, trial_id: int) -> None:
        trial: FrozenTrial = self.get_trial(trial_id)
        if not trial.state.is_finished():
            self._open[trial_id] = trial
            self._log.changed.add(trial_id)
            return
        self._open.pop(trial_id, None)
        self._drawn.pop(trial_id, None)
        self._ended = None
        if trial.state == TrialState.FAIL:
            self._failed.append(trial)
            return
        bisect.insort(self._best, (_rank(_as_seen(trial)), trial), key=lambda entry: entry[0])
        bisect.insort(self._latest, trial, key=_number)
        del self._best[self._most["best"] :]
        del self._latest[: -self._most["latest"]]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Those in the window, by number."""
        trials = self._window(for_sampler=False, drawn=False)
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def trials_for_sampler(
        self, states: Container[TrialState] | None, paused: Mapping[int, float | None] = MappingProxyType({})
    ) -> list[FrozenTrial]:
        """Those in the window, by number, as samplers see them; `paused` as `SamplerView` has it."""
        trials = _with_paused(self._window(for_sampler=True, drawn=states is not None), paused)
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        self.seen += len(trials)
        return trials

    def _window(self, for_sampler: bool, drawn: bool) -> list[FrozenTrial]:
        for trial_id in self._log.changed & self._open.keys():
            self._open[trial_id] = self.get_trial(trial_id)
            self._drawn[trial_id] = _without_drawn(self._open[trial_id])
        self._log.changed.clear()
        if self._ended is None:
            kept = {trial.number: trial for trial in (*self._latest, *self._failed, *(t for _, t in self._best))}
            self._ended = [kept[number] for number in sorted(kept)]
            self._seen_ended = _with_values([_as_seen(trial) for trial in self._ended])
        ended = self._seen_ended if for_sampler else self._ended
        going = self._drawn if drawn else self._open
        return sorted([*ended, *going.values()], key=_number)


class SamplerView:
    """A storage as samplers see it: for the `optuna.Study` that proposes. All else goes to the storage itself.

    A stopped trial is completed there if a value is reported for it. Of a `StudyLog` it has the trials in the window.

    Attributes:
        paused: number of a running trial that is paused → the value that samplers see; None for a pruned trial. It is
            in memory alone: a study that is rebuilt marks those that are paused then.
    """

    def __init__(self, storage: BaseStorage):
        self._storage = storage
        self.paused: dict[int, float | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def __reduce__(self) -> tuple[type, tuple[BaseStorage]]:
        return SamplerView, (self._storage,)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Those that samplers consider, by number."""
        if isinstance(self._storage, StudyLog):
            trials = self._storage.trials_for_sampler(states, self.paused)
        else:
            seen = _with_paused(map(_as_seen, self._storage.get_all_trials(study_id, deepcopy=False)), self.paused)
            trials = [trial for trial in seen if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials


def _as_seen(trial: FrozenTrial) -> FrozenTrial:
    """A trial that has ended as samplers see it."""
    if trial.state != TrialState.PRUNED or SAMPLER_VALUE not in trial.user_attrs:
        return trial
    seen = copy.copy(trial)
    seen.state = TrialState.COMPLETE
    seen.value = trial.user_attrs[SAMPLER_VALUE]
    return seen


def infeasible(trial: FrozenTrial) -> bool:
    """Whether a trial that has ended violates a constraint."""
    return any(value > 0 for value in trial.constraints.values())


def _as_paused(trial: FrozenTrial, value: float | None) -> FrozenTrial:
    """A running trial that is paused as samplers see it: as one that was stopped there."""
    seen = copy.copy(trial)
    seen.state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    seen.value = trial.intermediate_values[max(trial.intermediate_values)] if value is None else value
    return seen


def _with_paused(trials: Iterable[FrozenTrial], paused: Mapping[int, float | None]) -> list[FrozenTrial]:
    return [_as_paused(trial, paused[trial.number]) if trial.number in paused else trial for trial in trials]


def _with_values(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials, where infeasible ones without a value are completed with the median of the others.

    Optuna's Gaussian process learns constraints of completed trials alone. The median says nothing of the objective.
    """
    known = [trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    if not known or all(trial.state != TrialState.PRUNED for trial in trials):
        return trials
    neutral, seen = median(known), []
    for trial in trials:
        if trial.state == TrialState.PRUNED and not trial.intermediate_values and infeasible(trial):
            trial = copy.copy(trial)
            trial.state, trial.value = TrialState.COMPLETE, neutral
        seen.append(trial)
    return seen


def _without_drawn(trial: FrozenTrial) -> FrozenTrial:
    """A running trial with its own parameters alone, without what TPE has drawn for those whose conditions do not hold.

    A search that is resumed does not know what that was, and would propose others. TPE also keeps it as JSON, and would
    read it once more for every other trial that it proposes.
    """
    kept = {key: value for key, value in trial.system_attrs.items() if not key.startswith(DRAWN)}
    if len(kept) == len(trial.system_attrs):
        return trial
    seen = copy.copy(trial)
    seen.system_attrs = kept
    return seen


def _rank(trial: FrozenTrial) -> tuple[float, ...]:
    """Smaller is better, as `optuna.samplers.TPESampler` has it: pruned trials come behind, by how far they came.

    Infeasible ones come last.
    """
    if infeasible(trial):
        return (2, 0, 0, trial.number)
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return (0, 0, trial.value, trial.number)
    if not trial.intermediate_values:
        return (1, 0, 0, trial.number)
    step, value = max(trial.intermediate_values.items())
    return (1, -step, value if math.isfinite(value) else math.inf, trial.number)
