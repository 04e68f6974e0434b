"""Early-stopping methods of other packages as rules of a simulated search: Optuna's pruners, Syne Tune's PASHA."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from sepsearch.search.stopping.promotion import PromotionRungs
from sepsearch.search.stopping.rule import StoppingRule


class PrunerRule:
    """An Optuna pruner, asked after every epoch, with a study of its own.

    Args:
        pruner: an `optuna.pruners.BasePruner`.
        epochs: the full budget.
    """

    def __init__(self, pruner: Any, epochs: int):
        import optuna

        self.factor, self.values = 2, dict[int, dict[str, float]]()
        self._epochs = epochs
        self._study = optuna.create_study(pruner=pruner)
        self._trials: dict[str, Any] = {}

    def record(self, trial: str, epoch: int, value: float) -> None:
        """Report a value to the study."""
        if trial not in self._trials:
            self._trials[trial] = self._study.ask()
        self._trials[trial].report(value, epoch)

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """Whether Optuna prunes the trial after this epoch."""
        from optuna.trial import TrialState

        self.record(trial, epoch, value)
        if epoch >= self._epochs:
            self._study.tell(self._trials[trial], value)
        elif self._trials[trial].should_prune():
            self._study.tell(self._trials[trial], state=TrialState.PRUNED)
            return epoch
        return None

    def cutoff(self, rung: int) -> float | None:
        """A pruner has none to show."""
        return None

    def note(self, trial: str, rung: int) -> str:
        """A pruner gives no reason."""
        return ""


def optuna_rules(grace: int, factor: int) -> Mapping[str, Callable[[int], StoppingRule]]:
    """Optuna's pruners by name, each as a function of the full budget."""
    from optuna import pruners

    pruners_of: dict[str, Callable[[int], Any]] = {
        "Optuna SuccessiveHalvingPruner": lambda epochs: pruners.SuccessiveHalvingPruner(grace, factor),
        "Optuna HyperbandPruner": lambda epochs: pruners.HyperbandPruner(grace, epochs, factor),
        "Optuna MedianPruner": lambda epochs: pruners.MedianPruner(),
    }
    return {name: lambda epochs, make=make: PrunerRule(make(epochs), epochs) for name, make in pruners_of.items()}


class SynePasha(PromotionRungs):
    """Syne Tune's `PASHARungSystem` where it decides which rungs are open; promotion within them is sepsearch's.

    Needs Syne Tune 0.13 (later versions have no PASHA) somewhere on the path: `pip install --no-deps --target DIR
    syne-tune==0.13.0`, and DIR in PYTHONPATH.
    """

    def __init__(self, grace: int, factor: int, epochs: int):
        from syne_tune.optimizer.schedulers.hyperband_pasha import PASHARungSystem

        super().__init__(grace, factor, epochs)
        levels = list(self.values)
        self._epochs = epochs
        self._system = PASHARungSystem(levels, [1 / factor] * len(levels), "ratio", "min", "epoch", epochs)
        self._target: dict[str, int] = {}

    def report(self, trial: str, epoch: int, value: float) -> int | None:
        """As `PromotionRungs.report`, after Syne Tune has seen the value."""
        if trial not in self._target:
            self._target[trial] = min(self.values, default=self._epochs)
            self._system.on_task_add(trial, 0, new_config=True)
        if math.isfinite(value):
            self._system.on_task_report(trial, {"epoch": epoch, "ratio": value}, 0)
        ends = super().report(trial, epoch, value)
        if ends is None and epoch in self.values:
            self._go_on(trial, epoch)
        return ends

    def promoted(self, trial: str, rung: int) -> None:
        """As `PromotionRungs.promoted`; Syne Tune is told the next rung."""
        super().promoted(trial, rung)
        self._go_on(trial, rung)

    def _go_on(self, trial: str, rung: int) -> None:
        following = next((level for level in self.values if level > rung), self._epochs)
        self._system.on_task_add(trial, 0, new_config=False, milestone=following, resume_from=rung)

    def _open_above(self, rung: int) -> bool:
        return rung < int(self._system.current_max_t)
