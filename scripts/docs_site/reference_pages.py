"""Pages of the reference that are made from the code: space file, journal events, commands, Python API."""

import argparse
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NotRequired, get_args, get_origin

from schema_words import default_words, limit_words, models_in, table, type_words
from typing_extensions import is_typeddict

from sepsearch.models.families import FAMILIES, config_class
from sepsearch.models.training_config import TrainingConfig
from sepsearch.search import events
from sepsearch.spaces.descriptions import KEYS, PARAMETERS
from sepsearch.spaces.shipped import shipped_spaces
from sepsearch.spaces.space import Space
from sepsearch.utils.command_line import COMMANDS

FIELD_HEADINGS = ["key", "type", "default", "limits", "meaning"]


def space_keys() -> Iterator[tuple[str, Any, str]]:
    """Every key of a space file with its pydantic field and its description ("" without one), tables before theirs."""
    yield from _keys_of(Space, "")


def _keys_of(model: type, prefix: str) -> Iterator[tuple[str, Any, str]]:
    nested = []
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        key = f"{prefix}{name}"
        yield key, field, field.description or KEYS.get(key, "")
        in_names = get_origin(field.annotation) is dict
        nested += [(inner, f"{key}.NAME." if in_names else f"{key}.") for inner in models_in(field.annotation)]
    for inner, inner_prefix in nested:
        yield from _keys_of(inner, inner_prefix)


def parameter_rows(owner: str, cls: Any) -> list[list[str]]:
    """Rows of a table of parameters: those of a family's, or of the training's, configuration class."""
    return [
        [
            f"`{name}`",
            type_words(field.annotation),
            default_words(field),
            limit_words(field),
            field.description or PARAMETERS.get(f"{owner}.{name}", ""),
        ]
        for name, field in cls.__pydantic_fields__.items()
    ]


def space_page() -> str:
    """Reference of the space file: keys from the schema, parameters of families and training, files that come along."""
    groups: dict[str, list[list[str]]] = {}
    for key, field, meaning in space_keys():
        group, _, name = key.rpartition(".")
        row = [f"`{name}`", type_words(field.annotation), default_words(field), limit_words(field), meaning]
        groups.setdefault(group, []).append(row)
    parts = [
        "# The space file",
        "Every key of a space file, made from the schema that reads it (`sepsearch/spaces/space.py`). An unknown key, a"
        " wrong type or a value out of range is refused in one line that says what was expected. What a file does not"
        " name keeps its default.",
    ]
    for group, rows in groups.items():
        parts += [f"## {group or 'Top level'}", table(FIELD_HEADINGS, rows)]
    parts += [
        "## Parameters of networks",
        "Names for `parameters` and `fixed`, by family; a parameter that a file does not name has the default, which is"
        " the reference network's or, for other families, their own.",
    ]
    headings = ["parameter", *FIELD_HEADINGS[1:]]
    for family in FAMILIES:
        cls: Any = config_class(family)
        parts += [f"### Family {family}", table(headings, parameter_rows(family, cls))]
    parts += ["### Training, of every family", table(headings, parameter_rows("training", TrainingConfig))]
    parts.append("## Files that come with sepsearch")
    for name, path in sorted(shipped_spaces().items()):
        parts += [f"### {name}", f"`--space {name}`", f"```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def event_page() -> str:
    """Reference of the journal: its kinds of events and their fields, from the typed records."""
    introduction = inspect.getdoc(events) or ""
    parts = [
        "# Journal events",
        "`runs/<name>/journal.jsonl` has one event a line; all else that a run writes follows from it. Made from"
        " `sepsearch/search/events.py`. Besides its fields every event has `event` (its kind), `time` (seconds since"
        " 1970) and `elapsed` (seconds since its process opened the journal); a line ends with `sum`, a checksum of"
        " itself and all lines before it. `null` stands for numbers that are not finite.",
        introduction.partition("\n\n")[2].partition("\n\n`FORMAT`")[0],
        f"`format` of the events `search` and `resume` is the version of these records, now {events.FORMAT}; journals"
        " of earlier versions lack some fields, and are read as well. One of a later version is refused.",
    ]
    inner: dict[str, type] = {}
    for record in get_args(events.Event):
        kinds = get_args(record.__annotations__["event"])
        parts += [f"## {', '.join(kinds)}", inspect.getdoc(record) or "", _fields(record, inner)]
    for name, record in inner.items():
        parts += [f"## {name}", inspect.getdoc(record) or "", _fields(record, {})]
    return "\n\n".join(filter(None, parts)) + "\n"


def _fields(record: Any, inner: dict[str, type]) -> str:
    """Table of a record's fields; records within them are added to `inner`."""
    rows = []
    for name, annotation in record.__annotations__.items():
        if name in ("event", "time", "elapsed"):
            continue
        needed = get_origin(annotation) is not NotRequired
        found = annotation if needed else get_args(annotation)[0]
        for one in (found, *get_args(found)):
            if is_typeddict(one):
                inner[one.__name__] = one
        rows.append([f"`{name}`", f"`{_python_type(found)}`", "yes" if needed else "no"])
    return table(["field", "type", "always there"], rows) if rows else ""


def _python_type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    return re.sub(r"[\w.]*\.(\w+)", r"\1", text)


def command_page() -> str:
    """Reference of all commands: usage, options with defaults, examples, from the parsers."""
    parts = [
        "# Commands",
        "Made from the parsers; `sepsearch help COMMAND` prints the same. Output, errors, exit codes and the keys of"
        " `--json` are in [Output and JSON](../command-line.md).",
    ]
    for name, purpose in COMMANDS.items():
        parser = importlib.import_module(f"sepsearch.{name}").make_parser()
        parser.prog = f"sepsearch {name}"
        parts += [f"## {name}", f"{purpose[0].upper()}{purpose[1:]}.", parser.description or ""]
        for group in parser._action_groups:
            rows = [_option(parser, action) for action in group._group_actions if action.help != argparse.SUPPRESS]
            if rows and group.title != "output and help":
                title = {"positional arguments": "Arguments", "options": "Options"}.get(group.title or "", group.title)
                parts += [f"**{(title or '')[0].upper()}{(title or '')[1:]}**", group.description or ""]
                parts.append(table(["option", "meaning"], rows))
        if parser.epilog:
            lines = parser.epilog.partition("\n")[2].splitlines()
            parts += ["**Examples**", "```sh\n" + "\n".join(line.removeprefix("  ") for line in lines) + "\n```"]
    return "\n\n".join(filter(None, parts)) + "\n"


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    """A row of a table of options: how it is written, and its help with the default."""
    values = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    if action.choices and not action.metavar:
        values = "{" + ",".join(map(str, action.choices)) + "}"
    names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    shown = f"{names} {values}".strip() if action.option_strings else names
    return [f"`{shown}`", parser._get_formatter()._expand_help(action)]


API = {
    "Ray Tune": (
        "sepsearch.distributed.halving_scheduler.AsyncHalvingScheduler",
        "sepsearch.distributed.halving_scheduler.RungFile",
        "sepsearch.distributed.study_search.StudySearch",
        "sepsearch.search.sampling.optuna_study.OptunaStudy",
    ),
    "Journals and tables of runs": (
        "sepsearch.search.journal.read_run",
        "sepsearch.runs.state.reduce_events",
        "sepsearch.runs.tables.trial_rows",
        "sepsearch.runs.tables.curve_rows",
        "sepsearch.runs.tables.seed_rows",
        "sepsearch.runs.table_files.write_tables",
    ),
    "Training and models": (
        "sepsearch.training.loop.fit",
        "sepsearch.models.families.make_config",
        "sepsearch.models.families.make_network",
    ),
}


def api_page() -> str:
    """Reference of the Python API by mkdocstrings: the names of the package, then those for other uses."""
    import sepsearch

    parts = ["# Python API"]
    names = sorted(getattr(sepsearch, "__all__", ()), key=lambda name: (name[0].isupper(), name))  # functions first
    if names:
        parts += ["What `import sepsearch` has.", *(_directive(getattr(sepsearch, name), name) for name in names)]
    for title, paths in API.items():
        parts += [f"## {title}", *(f"::: {path}" for path in paths)]
    return "\n\n".join(parts) + "\n"


def _directive(thing: Any, name: str) -> str:
    """Where mkdocstrings finds a name of the package."""
    thing = getattr(thing, "__wrapped__", thing)
    module, qualified = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    return f"::: {module}.{qualified}" if qualified and module.startswith("sepsearch") else f"::: sepsearch.api.{name}"


PAGES: dict[str, Callable[[], str]] = {
    "reference/space-file.md": space_page,
    "reference/journal-events.md": event_page,
    "reference/commands.md": command_page,
    "reference/python-api.md": api_page,
}
