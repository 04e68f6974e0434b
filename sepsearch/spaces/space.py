"""The space file: its schema, and every error a person can make in it said in one line.

family: [report, unet]                              # one, or several as a dimension
parameters:
  filters: {choices: [8, 16, 32], when: {family: report}}
  learning_rate: {low: 3e-4, high: 1e-2, log: true} # a number between (whole numbers when both ends are)
  activation: [elu, silu]                           # one of these
  heads: all                                        # fixed
points: [{filters: 16, learning_rate: 1e-3}]        # tried first; what is not named is sampled
search: {trials: 100, epochs: 50, stopping: asha_promotion} # or asha, pasha, curve_model, none
stop: {patience: 20, min_improvement: 0.005}        # ends the search early
constraints: {parameters: 20000}                    # at most; examples_per_second: at least
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from sepsearch.audio.spectrogram import PRESETS, FrontEnd
from sepsearch.models.families import Config, config_params, is_parameter, make_config
from sepsearch.spaces.checks import check_harmonics, check_parameters, check_sampler, same_value
from sepsearch.spaces.constraints import Constraints
from sepsearch.spaces.parameter import Parameter, Value
from sepsearch.spaces.points import read_points
from sepsearch.spaces.shipped import shipped_spaces
from sepsearch.spaces.shorthands import written_out
from sepsearch.spaces.stop import StopSettings, check_stop
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.files import write_atomically
from sepsearch.utils.validation import STRICT, validated
from sepsearch.utils.yaml import dump_yaml, load_yaml

Stopping = Literal["asha", "asha_promotion", "pasha", "curve_model", "none"]
PAUSING = ("asha_promotion", "pasha")  # methods whose trials pause, with their checkpoint, and may go on
MOST_MODELLED = 500  # epochs whose covariances the learning-curve model holds
MOST = 1_000_000  # trials, epochs, seeds …: more are a slip of the pen


class _Strict(BaseModel):
    model_config = {**STRICT, "frozen": True}


class SearchSettings(_Strict):
    """How the space is searched.

    Of `trials` there are no more than the space holds configurations: none is trained twice.
    `examples_per_epoch` and `validation_examples` are per instrument, and at most: an epoch never holds more examples
    than the instrument with the most has. `tell` is how the sampler sees a trial that was stopped early
    (`sampler.Sampler`). `sampler` is tpe, random, gp, qmc or a plug-in's (docs/plug-ins.md). `spared_share` of the
    trials that would be stopped run on to their end, to know what stopping costs (see `sepsearch.replay`).

    `stopping` is the early-stopping method (docs/early-stopping.md): "asha" (successive halving, weak trials stop at
    rungs), "asha_promotion" (they pause, and may go on), "pasha" (the same, with a largest rung that grows while
    rankings change), "curve_model" (a learning-curve model, asked every `grace_epochs`), or "none".
    """

    trials: int = Field(default=100, ge=1, le=MOST)
    epochs: int = Field(default=50, ge=1, le=MOST)
    examples_per_epoch: int = Field(default=2048, ge=1, le=MOST)
    validation_examples: int = Field(default=512, ge=1, le=MOST)
    sampler: str = "tpe"
    startup_trials: int = Field(default=10, ge=1, le=MOST)
    grace_epochs: int = Field(default=4, ge=1, le=MOST)
    reduction_factor: int = Field(default=3, ge=2, le=MOST)
    tell: Literal["pruned", "last", "extrapolated"] = "extrapolated"
    spared_share: float = Field(default=0.0, ge=0, le=1)
    stopping: Stopping = "asha_promotion"

    @model_validator(mode="before")
    @classmethod
    def _stopping(cls, data: Any) -> Any:
        """The method of settings that have none: one that can spare trials, where some are to be spared."""
        spares = isinstance(data, dict) and data.get("spared_share") and "stopping" not in data
        return {**data, "stopping": "asha"} if spares else data

    @model_validator(mode="after")
    def _check(self) -> "SearchSettings":
        if self.spared_share and self.stopping in (*PAUSING, "none"):
            raise ValueError(
                f"spared_share is {self.spared_share:g}, but stopping: {self.stopping} stops no trial for good at a"
                " rung: expected 0, or stopping: asha or curve_model"
            )
        if self.stopping == "curve_model" and self.epochs > MOST_MODELLED:
            raise ValueError(f"stopping: curve_model takes at most {MOST_MODELLED} epochs, found {self.epochs}")
        return self


class FinalSettings(_Strict):
    """How the finalists are retrained, and which of them each instrument gets (`selection.choose_model`)."""

    configurations: int = Field(default=3, ge=1, le=MOST)
    seeds: int = Field(default=5, ge=1, le=MOST)
    epochs: int = Field(default=100, ge=1, le=MOST)
    choose: Literal["best", "smallest_within_sd"] = "best"

    @model_validator(mode="after")
    def _check(self) -> "FinalSettings":
        if self.choose == "smallest_within_sd" and min(self.configurations, self.seeds) < 2:
            raise ValueError("choose smallest_within_sd needs at least 2 configurations and 2 seeds")
        return self


class SplitSettings(_Strict):
    """Shares of the clips in each split."""

    train: float = Field(default=0.6, gt=0, lt=1)
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "SplitSettings":
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            total = self.train + self.validation + self.test
            raise ValueError(f"train, validation and test add up to {total:g}, expected 1")
        return self

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Of training, validation and test."""
        return self.train, self.validation, self.test


class FrontEndSettings(_Strict):
    """A preset of the front end, and what differs from it."""

    preset: Literal["mel", "log", "log15", "report"] = "mel"
    axis: Literal["mel", "log", "linear"] | None = None
    low_hz: float | None = None
    high_hz: float | None = None
    clip_seconds: float | None = None
    window: int | None = None

    def resolve(self) -> FrontEnd:
        """The front end; raises `UserError` for settings that give no transform."""
        changes = {k: v for k, v in self.model_dump(exclude={"preset"}).items() if v is not None}
        return validated(FrontEnd, dataclasses.asdict(PRESETS[self.preset]) | changes, "front_end")


class Space(_Strict):
    """A space file."""

    family: str = "report"
    parameters: dict[str, Parameter]
    fixed: dict[str, Value] = {}
    points: tuple[dict[str, Value], ...] = Field(default=(), strict=False)  # see `points.read_points`
    search: SearchSettings = SearchSettings()
    final: FinalSettings = FinalSettings()
    stop: StopSettings | None = None
    constraints: Constraints = Constraints()
    split: SplitSettings = SplitSettings()
    front_end: FrontEndSettings = FrontEndSettings()

    @model_validator(mode="before")
    @classmethod
    def _shorthands(cls, data: Any) -> Any:
        """What is written in a short form, such as `key: [a, b]`."""
        sound = isinstance(data, dict) and isinstance(data.get("parameters"), dict)
        return written_out(data) if sound else data

    @property
    def families(self) -> tuple[str, ...]:
        """Names of the families of networks that are searched."""
        parameter = self.parameters.get("family")
        return tuple(map(str, parameter.choices or ())) if parameter else (self.family,)

    def reference_params(self) -> dict[str, Any]:
        """The reference network's configuration, which is in every search, whichever families the space has."""
        former = {"detector_layers": 1} if "detector_layers" in self.parameters else {}
        return {**config_params(Config()), **former}

    def complete(self, values: dict[str, Any]) -> dict[str, Any]:
        """All parameters of a configuration: the sampled `values` over the fixed ones over the family's defaults."""
        family = values.get("family", self.family)
        fixed = {name: value for name, value in self.fixed.items() if is_parameter(family, name)}
        return {**config_params(make_config({"family": family})), **fixed, **values}

    def conditions(self, name: str) -> dict[str, Value]:
        """Values of other parameters under which this one is sampled, those of conditions' own conditions included.

        Raises:
            UserError: the conditions go in a circle or contradict each other.
        """
        found: dict[str, Value] = {}
        waiting = [name]
        while waiting:
            for other, value in self.parameters[waiting.pop(0)].when.items():
                if other == name:
                    raise UserError(f"parameters: {name}: when goes in a circle by way of {', '.join(found) or name}")
                if other in found and not same_value(found[other], value):
                    raise UserError(f"parameters: {name}: when asks {other} to be {found[other]!r} and {value!r}")
                if other not in found:
                    found[other] = value
                    waiting.append(other)
        return found


def load_space(path: Path) -> Space:
    """Read and check a space file; raises `UserError` for anything wrong with it."""
    data = load_yaml(path, f"{' or '.join(shipped_spaces())}, or a file such as my-space.yaml")
    return parse_space(data, str(path))


def stored_space(path: Path, values: dict[str, Any]) -> Space:
    """The space of a run that goes on: from its own space file or, where that is missing or empty, from its journal.

    The file is then written again, with all defaults in it.

    Args:
        path: of the file, in the run's folder.
        values: `space` of the journal's first event.

    Raises:
        UserError: the file holds something that is no space, or the journal's is none of this version.
    """
    # A crash of the machine leaves a file empty, or zeros.
    if path.exists() and not _is_blank(path):
        try:
            return load_space(path)
        except UserError as error:
            raise UserError(f"{error}: correct that, or remove the file: the journal has the space, too") from error
    space = journal_space(values, f"the journal beside {path}")
    write_atomically(path, f"# This file was lost: the space as the journal has it.\n{space_text(space)}")
    return space


def space_text(space: Space) -> str:
    """A space as the content of a space file, with what was set when it was made."""
    return dump_yaml(space.model_dump(mode="json", exclude_none=True, exclude_unset=True))


def journal_space(values: Any, where: str) -> Space:
    """The space of a journal's first event. Journals of earlier versions have no `stopping`: it was ASHA.

    Raises:
        UserError: it is none of this version.
    """
    rules = values.get("search") if isinstance(values, dict) else None
    if isinstance(rules, dict):
        values = {**values, "search": {"stopping": "asha", **rules}}
    return parse_space(values, where)


def _is_blank(path: Path) -> bool:
    try:
        return not path.read_bytes().strip(b"\0 \t\r\n")
    except OSError:  # said by who reads it next
        return False


def parse_space(data: dict[str, Any], where: str) -> Space:
    """Check the content of a space file; `where` names it in errors. Raises `UserError`."""
    space = validated(Space, data, where)
    try:
        check_sampler(space.search.sampler)
        check_parameters(space)
        check_harmonics(space, "harmonic_bins", space.fixed.get("harmonic_bins", 0))
        read_points(space)
        space.front_end.resolve()
        check_stop(space)
    except UserError as error:
        raise UserError(f"{where}: {one_line(error)}") from error
    return space
