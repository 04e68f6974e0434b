"""The sampler: an Optuna study that proposes configurations and records how each one ended."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.models.size import canonical_params
from sepsearch.search.sampling.feasibility import MOST_PROPOSALS, Feasibility, startup_trials
from sepsearch.search.sampling.known_trials import KnownTrial, enter_known, first_points
from sepsearch.search.sampling.optuna_space import distribution, make_sampler, proposal_seed, suggest
from sepsearch.search.sampling.optuna_study import Asked, OptunaStudy
from sepsearch.search.sampling.sampler_plugins import sampler_errors
from sepsearch.spaces.configurations import (
    configuration_key,
    count_configurations,
    holds,
    iterate_configurations,
    sampled_names,
)
from sepsearch.spaces.points import Point, is_complete, matches, read_points
from sepsearch.spaces.space import Space
from sepsearch.utils.output import library_level

if TYPE_CHECKING:
    import optuna

    Proposal = tuple[dict[str, Any], optuna.trial.Trial | None]  # a configuration, and its trial of the study

# How often a sampler is asked for one trial while it comes back to configurations of earlier ones. A Gaussian process
# gives the same answer again, and of a quasi-random sequence a trial takes one point, which a restored one skips.
PROPOSALS = {"tpe": 4, "random": 4, "gp": 1, "qmc": 1}
OWN_PROPOSALS = 4  # of a plug-in's sampler, which has another seed each time
RANDOM_PROPOSALS = 10  # of the random sampler then, where a space cannot be listed
LISTED = 10_000  # configurations of a space from which one is drawn among all that are left
REPEATED = "proposed again: the configuration of an earlier trial"
TOO_LARGE = "proposed at random: too many parameters"
REPLACED = "proposed, and another configuration was trained in its place"


class Sampler(OptunaStudy):
    """Proposes the configurations of a search, and records the outcome of each exactly once.

    The study is kept in an Optuna journal file, which optuna-dashboard opens; it is rebuilt from the search's own
    journal whenever a search is resumed. One trial gets the reference configuration, which no other is proposed.
    Proposals depend on the seed, on the number of earlier proposals, and on their outcomes: not on how often the
    process was restarted.
    No configuration is proposed twice, in whatever spelling (`size.canonical_params`): networks' seed and budget are
    the same for all trials, so it would only be trained again. Nor is one whose network has too many parameters: the
    study is told that it is infeasible (`feasibility`). Any other proposal that is not trained is in the study as
    failed, which no sampler looks at, with the reason and without "trial" among its attributes; a rebuilt study does
    not have it.

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
        known: completed trials of other runs, which the study begins with. They are none of this search's trials, and
            none of their configurations is proposed again but the best, which comes after the space's points.
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
        known: Sequence[KnownTrial] = (),
    ):
        import optuna

        from sepsearch.search.sampling import study_storage

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
        self.feasibility = Feasibility(space)
        self._known: set[bytes] = set()  # keys of all configurations that were asked for, or are kept for a trial
        if reference is not None:
            self._known.add(_key(self.reference_params()))
        self._count = count_configurations(space)
        self._points = first_points(space, read_points(space), known)
        enter_known(self.study, space, known)
        first = {_key(space.complete(dict(point))) for point in self._points if is_complete(space, point)}
        self._known |= {_key(trial.params) for trial in known} - first

    def ask(self, trial: str) -> dict[str, Any] | None:
        """A complete configuration for the trial with this id, which no earlier one has; the reference's for its trial.

        None where the space holds no other.
        """
        if trial == (self._reference_id() or trial):
            params = self._pick(self.reference_params())
            live = self._enter(trial, params)
        elif (proposal := self._first_or_next(trial, len(self._asked))) is not None:
            params, live = proposal
        else:
            return None
        self._add(trial, Asked(params, live=live))
        return params

    @property
    def listed(self) -> bool:
        """Whether all configurations of the space are gone through where the sampler proposes nothing new."""
        return self._count is not None and self._count <= LISTED

    def _add(self, trial: str, asked: Asked) -> None:
        self._asked[trial] = asked
        self._known.add(_key(asked.params))

    def _first_or_next(self, trial: str, number: int) -> "Proposal | None":
        """The point whose turn it is, with what it leaves open sampled; after the last one what the sampler proposes.

        A point of which every configuration was asked for already leaves its turn to the sampler.
        """
        turn = sum(id != self._reference_id() for id in self._asked)
        point = self._points[turn] if turn < len(self._points) else {}
        done = is_complete(self.space, point) and _key(self.space.complete(dict(point))) in self._known
        found = None if not point or done else self._propose(trial, number, point)
        return found or self._propose(trial, number, {})

    def _reference_id(self) -> str | None:
        """The id of the reference configuration's trial; None before there is one."""
        return self._reference or next(iter(self._asked), None)

    def _propose(self, trial: str, number: int, point: Point) -> "Proposal | None":
        """A configuration for the `number`-th trial that no earlier one has, and its trial of the study.

        The sampler's own, or one of those that are left where it comes back to what is known. It has the values of
        `point`.
        """
        listed = self.listed
        own, limited = (
            PROPOSALS.get(self.space.search.sampler, OWN_PROPOSALS),
            self.space.constraints.parameters is not None,
        )
        repeats = own if listed else own + RANDOM_PROPOSALS
        repeated = infeasible = 0
        while repeated < repeats and infeasible < MOST_PROPOSALS:
            # A sampler of its own for every proposal: its random numbers do not depend on what this process did before.
            attempt = repeated + infeasible
            random = repeated >= own or infeasible >= max(1, self.feasibility.own_proposals())
            name = "random" if random else None
            self._proposing.sampler = self._make_sampler(number, name, attempt)
            if point:
                self._proposing.enqueue_trial(point)
            with sampler_errors(name or self.space.search.sampler):
                live = self._proposing.ask()
                proposed = self.space.complete(suggest(self.space, live))
            params = self._pick(proposed)
            if params != proposed:
                self._discard(live, REPLACED)
                return params, self._enter(trial, params)
            if limited and not self.feasibility.holds(params):
                infeasible += 1
                if random:
                    self._discard(live, TOO_LARGE)
                else:
                    self.feasibility.reject(self._proposing, live, params, trial)
            elif _key(params) not in self._known:
                live.set_user_attr("trial", trial)
                return params, live
            else:
                repeated += 1
                self._discard(live, REPEATED)
        left = self._left_over(number, listed, point)
        if left is None:
            return None
        params = self._pick(left)
        return params, self._enter(trial, params)

    def _make_sampler(self, number: int, name: str | None, attempt: int) -> "optuna.samplers.BaseSampler":
        """The sampler of one proposal for the `number`-th trial."""
        startup = startup_trials(
            self.space, lambda: self._storage.trials_for_sampler(None), bool(self.feasibility.rejected)
        )
        return make_sampler(self.space, self.seed, number, name, attempt, startup=startup)

    def _left_over(self, number: int, listed: bool, point: Point) -> dict[str, Any] | None:
        """A configuration of a point that was not asked for yet: drawn from all, or the first of very many."""
        import numpy as np

        if self._count is None:
            return None
        limited, holds = self.space.constraints.parameters is not None, self.feasibility.holds
        every = islice(iterate_configurations(self.space), LISTED if limited else None)
        left = (one for one in every if matches(point, one) and _key(one) not in self._known and holds(one))
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

    def restore(self, trial: str, params: dict[str, Any], rejected: Iterable[Mapping[str, Any]] = ()) -> None:
        """Take in a trial that an earlier process asked for; then `report` and `tell` its values and outcome.

        After the last one call `restored`. `rejected`: sampled values of the infeasible proposals that came before it.
        """
        self.feasibility.restore(trial, rejected)
        self._add(trial, Asked(params))

    def restored(self) -> None:
        """Enter all that was restored in the study, in the order in which it was asked for."""
        from optuna.trial import TrialState, create_trial

        drawn = self._drawn()
        for trial, asked in self._asked.items():
            self.feasibility.enter(self.study, trial)
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
                        constraints=asked.constraints,
                    )
                )
                self._forget(asked)
        if self.space.search.sampler == "qmc":
            self._advance_sequence(drawn)

    def _drawn(self) -> int:
        """How many of the trials that were asked for took a point of a quasi-random sequence.

        Not the reference, nor points of the space file that leave nothing open: Optuna draws nothing for these.
        """
        others = [asked for trial, asked in self._asked.items() if trial != self._reference_id()]
        given = sum(
            is_complete(self.space, point) and matches(point, asked.params)
            for point, asked in zip(self._points, others, strict=False)
        )
        return len(others) - given

    def _advance_sequence(self, drawn: int) -> None:
        """Skip what earlier processes took of a quasi-random sequence: Optuna counts that in its study."""
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


def _key(params: Mapping[str, Any]) -> bytes:
    """The same for all configurations that are trained alike."""
    return configuration_key(canonical_params(params))


def _remove_remains(path: Path) -> None:
    """Remove what an earlier process left of a study, a lock of a killed one included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in (path, *path.parent.glob(f"{path.name}.lock*")):
        left.unlink(missing_ok=True)
