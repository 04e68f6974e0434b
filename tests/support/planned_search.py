"""A search plan without Ray and training: seven trials of four epochs, and two finalists."""

import hashlib
from pathlib import Path

from sepsearch.search.journal import Journal
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.selection import Finalist
from sepsearch.search.stopping.methods import METHODS
from sepsearch.spaces.space import Space, parse_space

EPOCHS, TRIALS = 4, 7


def space(sampler: str, tell: str) -> Space:
    settings = {"sampler": sampler, "tell": tell, "startup_trials": 3}
    parameters = {"filters": [8, 16, 24], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    return parse_space({"parameters": parameters, "search": settings}, "space")


def ratio(params: dict, epoch: int) -> float:
    """A made-up learning curve of a configuration."""
    digest = hashlib.sha256(repr(sorted(params.items())).encode()).digest()
    return 0.3 + digest[0] / 600 + digest[1] / 200 / epoch


def search_plan(folder: Path, journal: Journal, **choices) -> SearchPlan:
    options = {"sampler": "tpe", "tell": "last", "spared_share": 0.0, "retries": 1, "stopping": "asha"} | choices
    sampler = Sampler(space(options["sampler"], options["tell"]), None, "x", seed=3)
    share, retries = options["spared_share"], options["retries"]
    rungs = METHODS[options["stopping"]](1, 2, EPOCHS)
    return SearchPlan(sampler, rungs, journal, TRIALS, EPOCHS, 3, exempt_fraction=share, retries=retries)


FINALISTS = [Finalist("c0", "t0001", {"filters": 8}, False), Finalist("c1", "t0000", {"filters": 16}, True)]
