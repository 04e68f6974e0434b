"""Search, retrain and register small networks that pull one instrument out of a chamber recording.

For Python programs and notebooks: `search`, `resume`, `extend`, `open_run` and `load_model`, with `Run`, `Model`,
`Verdict`, `Event` and `UserError`; all of `sepsearch.api`. Importing this imports none of them: each comes when it is
used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepsearch.api import Event, Model, Run, UserError, Verdict, extend, load_model, open_run, resume, search

__version__ = "0.1.0"
__all__ = ["Event", "Model", "Run", "UserError", "Verdict", "extend", "load_model", "open_run", "resume", "search"]


def __getattr__(name: str) -> Any:
    if name == "search":
        return importlib.import_module("sepsearch.search")  # a package, too: see below
    if name in __all__:
        return getattr(importlib.import_module("sepsearch.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Module(ModuleType):
    """A module that is pickled by its name, as plain ones are; cloudpickle knows no others."""

    def __reduce__(self) -> Any:
        return importlib.import_module, (self.__name__,)


class _SearchPackage(_Module):
    """The package `sepsearch.search`, which is called as the function `sepsearch.api.search` is.

    Python makes every imported package an attribute of the one above, so that the name cannot be the function's alone.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.__wrapped__(*arguments, **options)

    @property
    def __wrapped__(self) -> Any:
        """The function; what `inspect.signature` and the help of a notebook look at."""
        return importlib.import_module("sepsearch.api").search


class _Package(_Module):
    """This package: makes `sepsearch.search` callable when it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "search" and isinstance(value, ModuleType):
            value.__class__ = _SearchPackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
