"""The sampler: an Optuna study that proposes configurations and records how each one ended."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.search.optuna_space import distribution, make_sampler, proposal_seed, suggest
from sepsearch.search.optuna_study import Asked, OptunaStudy
from sepsearch.spaces.configurations import (
    configuration_key,
    count_configurations,
    holds,
    iterate_configurations,
    sampled_names,
)
from sepsearch.spaces.space import Space
from sepsearch.utils.output import library_level

if TYPE_CHECKING:
    import optuna

# How often a sampler is asked for one trial while it comes back to configurations of earlier ones. A Gaussian process
# gives the same answer again, and of a quasi-random sequence a trial takes one point, which a restored one skips.
PROPOSALS = {"tpe": 4, "random": 4, "gp": 1, "qmc": 1}
RANDOM_PROPOSALS = 10  # of the random sampler then, where a space cannot be listed
LISTED = 10_000  # configurations of a space from which one is drawn among all that are left
REPEATED = "proposed again: the configuration of an earlier trial"
REPLACED = "proposed, and another configuration was trained in its place"


class Sampler(OptunaStudy):
    """Proposes the configurations of a search, and records the outcome of each exactly once.

    The study is kept in an Optuna journal file, which optuna-dashboard opens; it is rebuilt from the search's own
    journal whenever a search is resumed. One trial gets the reference configuration, which no other is proposed.
    Proposals depend on the seed, on the number of earlier proposals, and on their outcomes: not on how often the
    process was restarted.
    No configuration is proposed twice: networks' seed and budget are the same for all trials, so it would only be
    trained again. A proposal that is not trained is in the study as failed, which no sampler looks at, with the reason
    and without "trial" among its attributes; a rebuilt study does not have it.

    Args:
        space: what to sample, and by `search.tell` how the sampler sees a trial that was stopped early (see
            `OptunaStudy`).
        path: the study's journal file, replaced if there is one; None keeps the study in memory.
        name: the study's name.
        seed: of the sampler.
        pick: what is trained in place of a proposed configuration, as where only recorded ones can be had; the study
            has that one, which may have been trained before.
        window: how many of the best and of the latest trials that have ended are considered when the next one is
            proposed; `study_storage.WINDOW` if None. The time that takes grows up to there and no further.
        reference: the trial that gets the reference configuration; the first if None.
    """

    def __init__(
        self,
        space: Space,
        path: Path | None,
        name: str,
        seed: int,
        pick: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        window: tuple[int, int] | None = None,
        reference: str | None = None,
    ):
        import optuna

        from sepsearch.search import study_storage

        # Its warnings are not the user's concern, such as that a package would make its Gaussian process faster.
        optuna.logging.set_verbosity(library_level(logging.ERROR))
        self.space, self.seed = space, seed
        if path is not None:
            _remove_remains(path)
        window = window or study_storage.WINDOW
        self._storage = study_storage.StudyLog(path, *window)
        super().__init__(
            partial(suggest, space), storage=self._storage, name=name, stopped=space.search.tell, memory=sum(window)
        )
        self._pick = pick or (lambda params: params)
        self._reference = reference
        self._known: set[bytes] = set()  # keys of all configurations that were asked for, or are kept for a trial
        if reference is not None:
            self._known.add(configuration_key(self.reference_params()))
        self._count = count_configurations(space)

    def ask(self, trial: str) -> dict[str, Any] | None:
        """A complete configuration for the trial with this id, which no earlier one has; the reference's for its trial.

        None where the space holds no other.
        """
        if trial == (self._reference or next(iter(self._asked), trial)):
            params = self._pick(self.reference_params())
            live = self._enter(trial, params)
        elif (proposal := self._propose(trial, len(self._asked))) is not None:
            params, live = proposal
        else:
            return None
        self._add(trial, Asked(params, live=live))
        return params

    def _add(self, trial: str, asked: Asked) -> None:
        self._asked[trial] = asked
        self._known.add(configuration_key(asked.params))

    def _propose(self, trial: str, number: int) -> "tuple[dict[str, Any], optuna.trial.Trial | None] | None":
        """A configuration for the `number`-th trial that no earlier one has, and its trial of the study.

        The sampler's own, or one of those that are left where it comes back to what is known.
        """
        listed = self._count is not None and self._count <= LISTED
        own = PROPOSALS[self.space.search.sampler]
        for attempt in range(own if listed else own + RANDOM_PROPOSALS):
            # A sampler of its own for every proposal: its random numbers do not depend on what this process did before.
            name = None if attempt < own else "random"
            self._proposing.sampler = make_sampler(self.space, self.seed, number, name, attempt)
            live = self._proposing.ask()
            proposed = self.space.complete(suggest(self.space, live))
            params = self._pick(proposed)
            if params != proposed:
                self._discard(live, REPLACED)
                return params, self._enter(trial, params)
            if configuration_key(params) not in self._known:
                live.set_user_attr("trial", trial)
                return params, live
            self._discard(live, REPEATED)
        left = self._left_over(number, listed)
        if left is None:
            return None
        params = self._pick(left)
        return params, self._enter(trial, params)

    def _left_over(self, number: int, listed: bool) -> dict[str, Any] | None:
        """A configuration that was not asked for yet: drawn from all of them, or the first of very many."""
        import numpy as np

        if self._count is None:
            return None
        left = (one for one in iterate_configurations(self.space) if configuration_key(one) not in self._known)
        if not listed:
            return next(left, None)
        rest = list(left)
        return rest[np.random.default_rng(proposal_seed(self.seed, number)).integers(len(rest))] if rest else None

    def _discard(self, proposal: "optuna.trial.Trial", reason: str) -> None:
        """End a proposal that is not trained as failed: no sampler looks at those."""
        from optuna.trial import TrialState

        proposal.set_user_attr("reason", reason)
        self._proposing.tell(proposal, state=TrialState.FAIL)

    def _enter(self, trial: str, params: dict[str, Any]) -> "optuna.trial.Trial | None":
        """A running trial of the study with given parameters; None outside the space.

        There the study cannot place it: such a trial runs, and the study is not told.
        """
        if not holds(self.space, params):
            return None
        # Asked by the random sampler: the values are given, and others would go to lengths before they take them.
        self._proposing.sampler = make_sampler(self.space, self.seed, 0, "random")
        self._proposing.enqueue_trial(
            {name: params[name] for name in sampled_names(self.space, params)}, user_attrs={"trial": trial}
        )
        live = self._proposing.ask()
        suggest(self.space, live)
        return live

    def restore(self, trial: str, params: dict[str, Any]) -> None:
        """Take in a trial that an earlier process asked for; then `report` and `tell` its values and outcome.

        After the last one call `restored`.
        """
        self._add(trial, Asked(params))

    def restored(self) -> None:
        """Enter all that was restored in the study, in the order in which it was asked for."""
        from optuna.trial import TrialState, create_trial

        for trial, asked in self._asked.items():
            if asked.outcome is None:
                asked.live = self._enter(trial, asked.params)
                for epoch, value in asked.curve.items():
                    self.report(trial, epoch, value)
                if asked.paused is not None:
                    self.mark_paused(asked)
            elif holds(self.space, asked.params):
                state, final = asked.outcome
                names = sampled_names(self.space, asked.params)
                self.study.add_trial(
                    create_trial(
                        state=state,
                        # Optuna itself gives a pruned trial its last value.
                        value=asked.curve[max(asked.curve)] if state == TrialState.PRUNED and asked.curve else final,
                        params={name: asked.params[name] for name in names},
                        distributions={name: distribution(self.space.parameters[name]) for name in names},
                        intermediate_values=asked.curve,
                        user_attrs={"trial": trial, **asked.attributes()},
                    )
                )
                self._forget(asked)
        if self.space.search.sampler == "qmc":
            self._advance_sequence()

    def _advance_sequence(self) -> None:
        """Skip what earlier processes took of a quasi-random sequence: Optuna counts that in its study."""
        # The reference is drawn from no sequence, nor is the first proposal where the study holds nothing before it.
        reference = self._reference or next(iter(self._asked), "")
        before = self.holds_reference() and next(iter(self._asked), None) == reference
        drawn = len(self._asked) - (reference in self._asked) - (not before)
        trial = self.study.trials[-1] if drawn > 0 else None
        for number in range(drawn):
            sampler = make_sampler(self.space, self.seed, number)
            assert trial is not None
            study = self._proposing
            sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))

    def reference_params(self) -> dict[str, Any]:
        """The reference configuration as plain values."""
        return self.space.reference_params()

    def holds_reference(self) -> bool:
        """Whether the space can propose the reference configuration."""
        return holds(self.space, self.reference_params())

    def close(self, reason: str) -> None:
        """End every trial of the study that is still open as failed, and bring its file to the disk.

        Raises:
            UserError: the file cannot be written.
        """
        for trial, asked in self._asked.items():
            if asked.outcome is None:
                self.tell(trial, "failed", None, reason)
        self._storage.sync()


def _remove_remains(path: Path) -> None:
    """Remove what an earlier process left of a study, a lock of a killed one included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in (path, *path.parent.glob(f"{path.name}.lock*")):
        left.unlink(missing_ok=True)
