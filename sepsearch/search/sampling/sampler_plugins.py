"""Samplers from outside the package: factories by entry point (`sepsearch.samplers`), or registered in Python.

A factory takes a seed and the number of random trials to begin with, and gives an Optuna sampler. It is called anew for
every proposal, so that proposals do not depend on what a process did before; what a sampler must know it reads in the
study that Optuna hands it.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sepsearch.spaces.checks import SAMPLERS
from sepsearch.utils import plugins
from sepsearch.utils.errors import UserError, reason_of

if TYPE_CHECKING:
    import optuna

Factory = Callable[[int, int], "optuna.samplers.BaseSampler"]


def register_sampler(name: str, factory: Factory) -> None:
    """Make a sampler known to this process, as `search: {sampler: NAME}`; one of the same name is replaced.

    Args:
        name: that space files have.
        factory: (seed, startup trials) → Optuna's sampler.

    Raises:
        UserError: a built-in or an installed distribution has the name, or it cannot be called.
    """
    if name in SAMPLERS:
        raise UserError(f"sampler {name}: built into sepsearch: choose another name")
    if not callable(factory):
        raise UserError(f"sampler {name}: expected a function (seed, startup_trials), found {factory!r}")
    plugins.register_plugin(plugins.SAMPLERS, name, factory)


def require_sampler(name: str) -> None:
    """Raise `UserError` unless a sampler can be made; that of a plug-in is loaded for it."""
    if name not in SAMPLERS:
        own_sampler(name, 0, 1)


def own_sampler(name: str, seed: int, startup_trials: int) -> "optuna.samplers.BaseSampler":
    """A plug-in's sampler.

    Args:
        name: of the plug-in.
        seed: of one proposal.
        startup_trials: trials that are drawn at random before the sampler looks at results.

    Raises:
        UserError: there is none of that name, it cannot be loaded, or its factory fails or gives no sampler.
    """
    from optuna.samplers import BaseSampler

    plugin = plugins.find_plugin(plugins.SAMPLERS, name)
    if plugin is None:
        raise plugins.unknown_name(plugins.SAMPLERS, name, SAMPLERS)
    factory = plugins.load_plugin(plugin)
    if not callable(factory):
        raise UserError(f"{plugin}: expected a function (seed, startup_trials), found {type(factory).__name__}")
    with sampler_errors(name):
        sampler = factory(seed, startup_trials)
    if not isinstance(sampler, BaseSampler):
        found = type(sampler).__name__
        raise UserError(f"{plugin}: its factory gives {found}, expected an optuna.samplers.BaseSampler")
    return sampler


@contextlib.contextmanager
def sampler_errors(name: str) -> Iterator[None]:
    """Turn what the code of a plug-in's sampler raises into a `UserError`; that of a built-in is left as it is."""
    if name in SAMPLERS:
        yield
        return
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        plugin = plugins.find_plugin(plugins.SAMPLERS, name)
        raise UserError(
            f"{plugin or name}: cannot propose a configuration: {reason_of(error)}:"
            " correct it (sepsearch.testing.check_sampler), or choose another sampler"
        ) from error
