"""The space file: its schema, and every error a person can make in it said in one line.

family: report
parameters:
  filters: [8, 16, 32]                              # one of these
  learning_rate: {low: 3e-4, high: 1e-2, log: true} # a number between (whole numbers when both ends are)
  activation: elu                                   # fixed
  detector_width: {choices: [64, 128], when: {detector_layers: 2}}
search: {trials: 100, epochs: 50}
"""

import dataclasses
import difflib
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sepsearch.errors import UserError
from sepsearch.network import Config, config_class, config_params, make_config
from sepsearch.spectrogram import PRESETS, FrontEnd

Value = bool | int | float | str
LARGEST_FILE = 1_000_000  # bytes


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Parameter(_Strict):
    """One dimension of the space: `choices`, or a range from `low` to `high`; both sampled only `when` others fit.

    A parameter without its condition keeps the network's default.
    """

    choices: tuple[Value, ...] | None = Field(default=None, strict=False)
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | None = Field(default=None, ge=1)
    when: dict[str, Value] = {}

    @model_validator(mode="after")
    def _check(self) -> "Parameter":
        if (self.choices is None) == (self.low is None and self.high is None):
            raise ValueError("expected either choices, or low and high")
        if self.choices is not None:
            if not self.choices:
                raise ValueError("choices is empty, expected at least one value")
            if len(set(map(repr, self.choices))) < len(self.choices):
                raise ValueError(f"choices {list(self.choices)} holds a value twice")
            if self.log or self.step:
                raise ValueError("log and step belong to a range (low, high), not to choices")
            return self
        if self.low is None or self.high is None:
            raise ValueError("low and high belong together, one of them is missing")
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}: swap them?")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, expected above 0 on a logarithmic scale")
        if self.step and (self.log or not self.whole):
            raise ValueError("step belongs to whole numbers on a linear scale")
        return self

    @property
    def whole(self) -> bool:
        """Whether the range is one of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def corners(self) -> list[Value]:
        """Values that stand for all: every choice, or both ends."""
        return list(self.choices) if self.choices is not None else [v for v in (self.low, self.high) if v is not None]


class SearchSettings(_Strict):
    """How the space is searched.

    `examples_per_epoch` and `validation_examples` are per instrument, and at most: an epoch never holds more examples
    than the instrument with the most has. `tell` is what the sampler hears of a trial that was stopped early
    (`sampling.Sampler`). `spared_share` of the trials that would be stopped run on to their end, to know what stopping
    costs (`sepsearch.replay` tells).
    """

    trials: int = Field(default=100, ge=1)
    epochs: int = Field(default=50, ge=1)
    examples_per_epoch: int = Field(default=2048, ge=1)
    validation_examples: int = Field(default=512, ge=1)
    sampler: Literal["tpe", "random", "gp", "qmc"] = "tpe"
    startup_trials: int = Field(default=10, ge=1)
    grace_epochs: int = Field(default=4, ge=1)
    reduction_factor: int = Field(default=3, ge=2)
    tell: Literal["pruned", "last", "extrapolated"] = "pruned"
    spared_share: float = Field(default=0.0, ge=0, le=1)


class FinalSettings(_Strict):
    """How the finalists are retrained."""

    configurations: int = Field(default=3, ge=1)
    seeds: int = Field(default=5, ge=1)
    epochs: int = Field(default=100, ge=1)


class SplitSettings(_Strict):
    """Shares of the clips on each side."""

    train: float = Field(default=0.6, gt=0, lt=1)
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "SplitSettings":
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            total = self.train + self.validation + self.test
            raise ValueError(f"train, validation and test add up to {total:g}, expected 1")
        return self


class FrontEndSettings(_Strict):
    """A preset of the front end, and what differs from it."""

    preset: Literal["mel", "log", "report"] = "mel"
    axis: Literal["mel", "log", "linear"] | None = None
    low_hz: float | None = None
    high_hz: float | None = None
    clip_seconds: float | None = None
    window: int | None = None

    def resolve(self) -> FrontEnd:
        """The front end; raises `UserError` for settings that give no transform."""
        changes = {k: v for k, v in self.model_dump(exclude={"preset"}).items() if v is not None}
        return dataclasses.replace(PRESETS[self.preset], **changes)


class Space(_Strict):
    """A space file."""

    family: str = "report"
    parameters: dict[str, Parameter]
    fixed: dict[str, Value] = {}
    search: SearchSettings = SearchSettings()
    final: FinalSettings = FinalSettings()
    split: SplitSettings = SplitSettings()
    front_end: FrontEndSettings = FrontEndSettings()

    @model_validator(mode="before")
    @classmethod
    def _shorthands(cls, data: Any) -> Any:
        """`key: [a, b]` is choices, `key: value` is fixed."""
        if not isinstance(data, dict) or not isinstance(data.get("parameters"), dict):
            return data
        parameters, fixed = {}, {}
        for key, value in data["parameters"].items():
            if isinstance(value, list):
                parameters[key] = {"choices": value}
            elif isinstance(value, dict):
                parameters[key] = value
            else:
                fixed[key] = value
        return {**data, "parameters": parameters, "fixed": {**fixed, **(data.get("fixed") or {})}}

    def reference(self) -> Config:
        """The family's reference configuration: the report's final architecture with its optimizer's settings."""
        return config_class(self.family)()

    def complete(self, values: dict[str, Any]) -> dict[str, Any]:
        """All parameters of a configuration: the sampled `values` over the fixed ones over the reference's."""
        return {**config_params(self.reference()), **self.fixed, **values}


def load_space(path: Path) -> Space:
    """Read and check a space file; raises `UserError` for anything wrong with it."""
    if not path.is_file():
        raise UserError(f"{path}: no such space file; search_spaces/detector.yaml is one")
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes, expected a space file of at most {LARGEST_FILE:,}")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not a space file ({type(error).__name__})") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: found {type(data).__name__}, expected keys: {', '.join(Space.model_fields)}")
    return parse_space(data, str(path))


def parse_space(data: dict[str, Any], where: str) -> Space:
    """Check the content of a space file; `where` names it in errors. Raises `UserError`."""
    try:
        space = Space.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_one_line(error)}") from error
    try:
        _check_parameters(space)
        space.front_end.resolve()
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return space


def _check_parameters(space: Space) -> None:
    """Every parameter exists, every value it can take builds a network, every condition can hold."""
    base = config_params(space.reference())
    make_config({**base, **space.fixed})
    for name, parameter in space.parameters.items():
        if name in space.fixed:
            raise UserError(f"parameters: {name} is given twice, as a range and fixed")
        for value in parameter.corners():
            make_config({**base, name: value})
        for other, value in parameter.when.items():
            if other == name or other not in space.parameters:
                valid = ", ".join(key for key in space.parameters if key != name)
                raise UserError(f"parameters: {name}: when names {other!r}, expected one of {valid}")
            if space.parameters[other].when:
                raise UserError(f"parameters: {name}: when names {other!r}, which is conditional itself")
            choices = space.parameters[other].choices
            if choices is None or value not in choices:
                raise UserError(f"parameters: {name}: when {other} is {value!r}, expected one of its choices {choices}")


def _one_line(error: ValidationError) -> str:
    """The most telling problem pydantic found, in this project's words."""
    # A misspelt key explains a missing one.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    location = [str(part) for part in problem["loc"] if not str(part).startswith(("union", "function"))]
    where = ": ".join(part for part in location if part not in ("int", "float", "str", "bool"))
    if problem["type"] == "extra_forbidden":
        keys = list(_fields_at(location[:-1]))
        close = difflib.get_close_matches(location[-1], keys, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{where}: unknown key{hint}, expected one of {', '.join(keys)}"
    if problem["type"] == "missing":
        return f"{where}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    found = "" if isinstance(problem["input"], dict) else f", found {problem['input']!r}"
    return f"{where}: {message[0].lower()}{message[1:]}{found}"


def _fields_at(location: list[str]) -> Any:
    """The keys that are valid at a place of the file."""
    sections: dict[str, type[BaseModel]] = {
        "search": SearchSettings,
        "final": FinalSettings,
        "split": SplitSettings,
        "front_end": FrontEndSettings,
        "parameters": Parameter,
    }
    return sections[location[0]].model_fields if location else Space.model_fields


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (a few lines of them can fill the memory) or doubled keys; 3e-4 is a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                problem = f"key {key_node.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(str(key_node.value))
        return super().construct_mapping(node, deep)


# YAML 1.1 wants a dot in 3.0e-4; people write 3e-4.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
