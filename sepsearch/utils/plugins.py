"""Plug-ins: networks, samplers and layouts from outside the package, found by entry point or registered in Python.

Entry points are those of installed distributions (`importlib.metadata`). None is imported before it is asked for by
its name, and nothing else can be asked for: a file that is read (space, journal, model) never names code or a path.
"""

import contextlib
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from sepsearch.utils.errors import UserError, reason_of

FAMILIES, SAMPLERS, LAYOUTS = "sepsearch.families", "sepsearch.samplers", "sepsearch.layouts"
KINDS = {FAMILIES: "family", SAMPLERS: "sampler", LAYOUTS: "layout"}
HASH_DIGITS = 12  # of sources' checksums
UNKNOWN_SOURCE = "unknown"  # in place of a checksum, of code that was typed where no file or notebook keeps it

_registered: dict[tuple[str, str], "Plugin"] = {}


@dataclass(frozen=True)
class Plugin:
    """A family, sampler or layout from outside the package.

    Attributes:
        group: one of KINDS.
        name: that it is asked for by.
        distribution: that it is installed with, as pip calls it; "" for one that was registered in Python.
        version: of the distribution; "" for one that was registered.
        source: first digits of the SHA-256 of its source, or UNKNOWN_SOURCE.
        load: gives the object; imports its module.
    """

    group: str
    name: str
    distribution: str
    version: str
    source: str
    load: Callable[[], Any]

    def __str__(self) -> str:
        """What it is and where it is from, for messages."""
        origin = f"{self.distribution} {self.version}" if self.distribution else "registered in Python"
        return f"{KINDS[self.group]} {self.name} ({origin})"

    def facts(self) -> dict[str, str]:
        """Where it is from, for a model's card."""
        return {"distribution": self.distribution, "version": self.version, "source": self.source}


def register_plugin(group: str, name: str, value: Any, sources: Sequence[Any] = ()) -> None:
    """Make an object known to this process under a name; one that was registered before is replaced.

    Args:
        group: one of KINDS.
        name: that it is asked for by.
        value: the object.
        sources: classes and functions whose source says which version it is; the object itself by default.

    Raises:
        UserError: an installed distribution has the name.
    """
    if taken := _installed(group, name):
        raise UserError(
            f"{KINDS[group]} {name}: the installed distribution {_origin(taken[0])} has this name:"
            f" choose another, or uninstall {_distribution(taken[0])}"
        )
    source = _source_of_objects(sources or (value,))
    _registered[group, name] = Plugin(group, name, "", "", source, lambda: value)


def forget_plugin(group: str, name: str) -> None:
    """Undo `register_plugin`."""
    _registered.pop((group, name), None)


@contextlib.contextmanager
def known_as(group: str, name: str, value: Any) -> Iterator[None]:
    """For as long as this lasts, an object is the plug-in of that name, whatever is installed under it."""
    before = _registered.get((group, name))
    _registered[group, name] = Plugin(group, name, "", "", UNKNOWN_SOURCE, lambda: value)
    try:
        yield
    finally:
        del _registered[group, name]
        if before:
            _registered[group, name] = before


def find_plugin(group: str, name: object) -> Plugin | None:
    """The plug-in of that name, not loaded yet; None if there is none.

    Raises:
        UserError: several distributions have one of that name.
    """
    if not isinstance(name, str):
        return None
    if own := _registered.get((group, name)):
        return own
    found = _installed(group, name)
    if not found:
        _entry_points.cache_clear()  # it may have been installed since, as in a notebook
        importlib.invalidate_caches()
        found = _installed(group, name)
    if len(found) > 1:
        origins = " and ".join(sorted(map(_origin, found)))
        raise UserError(
            f"{KINDS[group]} {name}: two installed distributions have this name, {origins}: uninstall one of them"
        )
    return _plugin(found[0]) if found else None


def refuse_builtin_name(group: str, name: str) -> None:
    """Raise `UserError` if an installed distribution has a plug-in of the name of a built-in."""
    if taken := _installed(group, name):
        raise UserError(
            f"{KINDS[group]} {name}: built into sepsearch, and {_origin(taken[0])} has another of this name:"
            f" uninstall {_distribution(taken[0])}, or have it renamed"
        )


def plugin_names(group: str) -> list[str]:
    """Names of all plug-ins of a group, sorted."""
    _entry_points.cache_clear()
    return sorted({name for kind, name in _registered if kind == group} | {point.name for point in _all(group)})


def load_plugin(plugin: Plugin) -> Any:
    """The object of a plug-in.

    Raises:
        UserError: its module cannot be imported, or has no such object.
    """
    try:
        return plugin.load()
    except (Exception, SystemExit) as error:
        advice = f"repair or reinstall {plugin.distribution}, or uninstall it"
        raise UserError(f"{plugin}: cannot be loaded: {reason_of(error)}: {advice}") from error


def unknown_name(group: str, name: object, builtin: Iterable[str]) -> UserError:
    """The error for a name that neither a built-in nor a plug-in has."""
    valid = [*builtin, *plugin_names(group)]
    close = difflib.get_close_matches(str(name), valid, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    advice = hint or ": install the distribution that has it, or register it in Python (docs/plug-ins.md)"
    return UserError(f"{KINDS[group]} is {name!r}, expected one of {', '.join(valid)} or a plug-in's{advice}")


def used_versions(used: Iterable[tuple[str, str]], registered: bool = True) -> dict[str, str]:
    """Versions of the plug-ins among (group, name) pairs, by distribution; the others are built-ins.

    Args:
        used: groups and names.
        registered: whether to include those that were registered in Python, under names such as "family mine".
    """
    found: dict[str, str] = {}
    for group, name in used:
        plugin = find_plugin(group, name)
        if plugin and plugin.distribution:
            found[plugin.distribution] = f"{plugin.version}+{plugin.source}"
        elif plugin and registered:
            found[f"{KINDS[group]} {name}"] = f"registered in Python, source {plugin.source}"
    return found


def installed_versions() -> dict[str, str]:
    """Versions of all installed distributions with plug-ins, by name; nothing is imported."""
    plugins = [_plugin(point) for group in KINDS for point in _all(group)]
    return {plugin.distribution: f"{plugin.version}+{plugin.source}" for plugin in plugins}


def _all(group: str) -> tuple[EntryPoint, ...]:
    return tuple(point for point in _entry_points(tuple(sys.path)) if point.group == group)


def _installed(group: str, name: str) -> list[EntryPoint]:
    return [point for point in _all(group) if point.name == name]


@functools.lru_cache(maxsize=4)
def _entry_points(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of all groups in the distributions of `sys.path`, as it is now."""
    return tuple(point for group in KINDS for point in importlib.metadata.entry_points(group=group))


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


def _origin(point: EntryPoint) -> str:
    return f"{_distribution(point)} {point.dist.version if point.dist else ''}".strip()


def _plugin(point: EntryPoint) -> Plugin:
    name = _distribution(point)
    modules = {p.module.partition(".")[0] for group in KINDS for p in _all(group) if _distribution(p) == name}
    version = point.dist.version if point.dist else ""
    return Plugin(point.group, point.name, name, version, _source_of_modules(name, version, tuple(modules)), point.load)


@functools.lru_cache(maxsize=64)
def _source_of_modules(distribution: str, version: str, modules: tuple[str, ...]) -> str:
    """Checksum of a distribution's top-level modules and packages, as when it was first asked for; none is imported."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        for path in _python_files(name):
            digest.update(f"{name}/{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:HASH_DIGITS]


def _python_files(module: str) -> Iterator[Path]:
    """Source files of a top-level module or package."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # said when it is loaded
        return
    if spec and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            yield from sorted(Path(folder).rglob("*.py"))
    elif spec and spec.origin and Path(spec.origin).is_file():
        yield Path(spec.origin)


def _source_of_objects(values: Iterable[Any]) -> str:
    try:
        text = "\0".join(inspect.getsource(value) for value in values)
    except (OSError, TypeError):  # typed at a prompt, or made by a call
        return UNKNOWN_SOURCE
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
