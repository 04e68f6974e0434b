"""What a sampler must do: valid proposals, whatever became of earlier ones, and the same ones again for one seed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sepsearch.models.families import make_config
from sepsearch.search.sampling.optuna_space import suggest
from sepsearch.search.sampling.optuna_study import OptunaStudy
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.sampling.sampler_plugins import own_sampler
from sepsearch.spaces.space import Space, parse_space
from sepsearch.utils import plugins
from sepsearch.utils.errors import UserError

NAME = "sampler-under-test"
TRIALS = 14
OPEN = 2  # trials that still run when a search is restarted
MORE = 3  # proposals after that
SEEDS = 5  # of which one at least must begin with another proposal
REFERENCE = "no trial"  # none of the trials: all are the sampler's
STATES = ("completed", "completed", "stopped", "failed")  # in turn
Asked = dict[str, Any]

SPACE = {
    "family": ["report", "unet"],
    "parameters": {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "batch_size": {"low": 8, "high": 64, "step": 8},
        "filters": {"choices": [4, 8, 16], "when": {"family": "report"}},
        "head": {"choices": ["relu", "mask"], "when": {"family": "report"}},
        "channels": {"low": 2, "high": 12, "when": {"family": "unet"}},
        "l2": {"low": 0.0, "high": 0.1, "when": {"family": "unet"}},
    },
    "search": {"sampler": NAME, "startup_trials": 4},
}


def check_sampler(factory: Callable[[int, int], Any]) -> None:
    """Check the factory of a sampler, as a test of one's own package calls it.

    Args:
        factory: (seed, startup trials) → an Optuna sampler; what the entry point names, or `register_sampler` gets.

    Raises:
        AssertionError: something must be corrected; the message says what.
    """
    with plugins.known_as(plugins.SAMPLERS, NAME, factory):
        try:
            own_sampler(NAME, 0, 1)
            space = parse_space(SPACE, "the space of the check")
            first, asked = _search(space, 0, STATES)
            _check_seeds(space, asked)
            _check_restart(space, first, asked)
            _search(space, 0, ("failed",))
        except UserError as error:
            raise AssertionError(str(error)) from error


def _search(space: Space, seed: int, states: Sequence[str]) -> tuple[Sampler, list[Asked]]:
    """A search whose trials end in these states in turn, the last ones not at all; and what was asked for."""
    sampler, asked = Sampler(space, None, "check", seed, reference=REFERENCE), []
    for number in range(TRIALS):
        params = sampler.ask(f"t{number}")
        assert params is not None, "the sampler proposes nothing"
        make_config(params)
        asked.append(params)
        if number < TRIALS - OPEN:
            _end(sampler, number, params, states)
    return sampler, asked


def _end(sampler: Sampler, number: int, params: Asked, states: Sequence[str]) -> None:
    value, state = 0.5 + params["learning_rate"] * 10, states[number % len(states)]
    for epoch in (1, 2):
        sampler.report(f"t{number}", epoch, value / epoch)
    sampler.tell(f"t{number}", state, value if state == "completed" else None, "a reason")


def _check_seeds(space: Space, asked: list[Asked]) -> None:
    _, again = _search(space, 0, STATES)
    assert again == asked, (
        "one seed gives other proposals in a second search: draw from the factory's seed alone, and keep nothing"
        " outside the sampler"
    )
    # Asked of Optuna itself: a search would put others in the place of a proposal that comes again.
    studies = (OptunaStudy(partial(suggest, space), sampler=own_sampler(NAME, seed, 4)) for seed in range(SEEDS))
    firsts = [study.ask("t0") for study in studies]
    assert any(first != firsts[0] for first in firsts), (
        "other seeds give the same first proposal: hand the factory's seed to the sampler"
    )


def _check_restart(space: Space, first: Sampler, asked: list[Asked]) -> None:
    """A search that is resumed restores its trials and goes on as if it had never ended."""
    again = Sampler(space, None, "check", 0, reference=REFERENCE)
    for number, params in enumerate(asked):
        again.restore(f"t{number}", params)
    for number, params in enumerate(asked[: TRIALS - OPEN]):
        _end(again, number, params, STATES)
    again.restored()
    names = [f"t{TRIALS + number}" for number in range(MORE)]
    assert [again.ask(name) for name in names] == [first.ask(name) for name in names], (
        "proposals after a restart are others: take what the sampler must know from the trials of the study"
        " (study.get_trials), not from the sampler itself or the study's attributes"
    )
