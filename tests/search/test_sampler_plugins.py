"""Samplers from outside the package propose as those of sepsearch do; what goes wrong in them is one line."""

import random
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from plugin_fixtures import install

from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.sampling.sampler_plugins import register_sampler, require_sampler
from sepsearch.spaces.space import Space, parse_space
from sepsearch.utils.errors import UserError
from sepsearch.utils.plugins import SAMPLERS, forget_plugin

SOURCE = "from optuna.samplers import RandomSampler\nmake = lambda seed, startup: RandomSampler(seed=seed)"


def space(name: str, **parameters: Any) -> Space:
    content = parameters or {"learning_rate": {"low": 1e-4, "high": 1e-2}, "filters": [2, 4]}
    return parse_space({"parameters": content, "search": {"sampler": name}}, "space")


@pytest.fixture
def own(request):
    """A registered sampler by the name "own", of the factory that the test names."""
    register_sampler("own", request.param)
    yield "own"
    forget_plugin(SAMPLERS, "own")


def test_an_installed_sampler_proposes_for_its_seed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "seeded-samplers", {"_seeded": SOURCE}, {f"{SAMPLERS}: seeded": "_seeded:make"})
    asked = [
        [sampler.ask(f"t{number}") for number in range(4)]
        for sampler in (Sampler(space("seeded"), None, "x", seed) for seed in (1, 1, 2))
    ]
    assert asked[0] == asked[1] != asked[2]


def test_an_unknown_sampler_is_named_with_all_that_are_valid():
    with pytest.raises(UserError, match=r"search: sampler is 'tpee', expected one of tpe, random, gp, qmc.*mean tpe"):
        space("tpee")


def test_code_and_paths_are_no_names_of_samplers():
    for name in ("optuna.samplers:RandomSampler", "/tmp/sampler.py", "os:system"):
        with pytest.raises(UserError, match="expected one of"):
            space(name)


def test_the_name_of_a_builtin_cannot_be_registered():
    with pytest.raises(UserError, match="sampler gp: built into sepsearch"):
        register_sampler("gp", RandomSampler)


@pytest.mark.parametrize("own", [lambda seed, startup: RandomSampler(seed=seed)], indirect=True)
def test_every_configuration_of_a_small_space_is_proposed_once(own):
    sampler = Sampler(space(own, filters=[2, 4, 16], l2=[0.0, 0.1]), None, "x", 0)
    asked = [sampler.ask(f"t{number}") for number in range(7)]
    assert asked[6] is None
    assert len({(params["filters"], params["l2"]) for params in asked[:6]}) == 6


def failing(seed: int, startup: int) -> RandomSampler:
    class Failing(RandomSampler):
        def sample_independent(self, *arguments: Any) -> Any:
            raise LookupError("no such table")

    return Failing(seed=seed)


@pytest.mark.parametrize("own", [failing], indirect=True)
def test_what_a_sampler_raises_is_one_line_that_names_it(own):
    require_sampler(own)
    sampler = Sampler(space(own), None, "x", 0, reference="none")
    with pytest.raises(
        UserError, match=r"sampler own \(registered in Python\): cannot propose .*LookupError: no such table"
    ):
        sampler.ask("t0")


@pytest.mark.parametrize("own", [lambda seed, startup: random.Random(seed)], indirect=True)
def test_what_is_no_sampler_is_refused_before_a_search_begins(own):
    with pytest.raises(UserError, match=r"its factory gives Random, expected an optuna.samplers.BaseSampler"):
        require_sampler(own)
