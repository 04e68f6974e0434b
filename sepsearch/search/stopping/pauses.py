"""Trials of a search plan that are paused at rungs: which is promoted next, which end when the search is over."""

from dataclasses import replace

from sepsearch.search.events import PauseEvent
from sepsearch.search.stopping.rule import PausingRule, StoppingRule
from sepsearch.search.trials import Trial


class Pauses:
    """Paused trials by id; always empty where the rule is no `PausingRule`."""

    def __init__(self, rule: StoppingRule):
        self._rule = rule if isinstance(rule, PausingRule) else None
        self._trials: dict[str, Trial] = {}

    @property
    def word(self) -> str:
        """What happens to a trial that does not go on at a rung: "paused" or "stopped"."""
        return "stopped" if self._rule is None else "paused"

    def pause(self, trial: Trial) -> PauseEvent | None:
        """The event of a trial that must not go on at its rung; None where that is its end."""
        if self._rule is None or trial.rung is None:
            return None
        return {"event": "paused", "id": trial.id, "rung": trial.rung}

    def promotion(self, unfinished: int, finish: bool) -> PauseEvent | None:
        """The event of the paused trial that goes on next; None where none does.

        Args:
            unfinished: how many trials have not ended.
            finish: no other trial will begin, and none has completed.
        """
        if self._rule is None:
            return None
        found = self._rule.promotable()
        if found is None and finish and len(self._trials) == unfinished:
            found = self._rule.finishing()
        return {"event": "promoted", "id": found[0], "rung": found[1]} if found else None

    def apply(self, trial: Trial, event: PauseEvent) -> None:
        """Change the trial's state and the rule by an event."""
        trial.paused = event["event"] == "paused"
        trial.rung = event["rung"] if trial.paused else None
        if trial.paused:
            self._trials[trial.id] = trial
        else:
            self._trials.pop(trial.id, None)
        if self._rule:
            (self._rule.paused if trial.paused else self._rule.promoted)(trial.id, event["rung"])

    def ended(self, trial: Trial) -> None:
        """A trial has ended."""
        if trial.paused and self._rule:
            self._rule.withdrawn(trial.id)
        trial.paused = False
        self._trials.pop(trial.id, None)

    def left_over(self, unfinished: int, finish: bool) -> list[Trial]:
        """The paused trials, where none can be promoted any more, the best first; no other trial will begin.

        Arguments as `promotion` has them. While a trial is not paused, its value can still promote others.
        """
        return [] if len(self._trials) < unfinished or self.promotion(unfinished, finish) else self.all()

    def all(self) -> list[Trial]:
        """The paused trials, the best first: provisional models are made of those better than all before."""
        return sorted(self._trials.values(), key=lambda trial: (replace(trial, state="stopped").rank, trial.id))
