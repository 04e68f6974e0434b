"""Arguments and messages of a caller in Python, and events that are handed to its functions."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import sepsearch as ss
from sepsearch.models.families import Family
from sepsearch.pipeline import python_search
from sepsearch.pipeline.callbacks import Callbacks
from sepsearch.pipeline.python_caller import python_caller, python_names, python_options
from sepsearch.runs.options import RunOptions
from sepsearch.spaces.shipped import shipped_spaces
from sepsearch.utils import plugins
from sepsearch.utils.errors import UserError
from sepsearch.utils.output import OUTPUT, write_note

SPACE = {"parameters": {"filters": (4, 8)}, "search": {"trials": 3}}


def test_arguments_are_read_as_the_command_line_reads_its_options():
    found = python_options(
        {"space": "laptop", "instruments": ["violin", "vc"], "time_budget": "2m", "gpus_per_trial": "auto", "trials": 4}
    )
    assert found == RunOptions(
        space=shipped_spaces()["laptop"], instruments=("vn", "vc"), time_budget=120.0, gpus_per_trial="auto", trials=4
    )
    assert python_options({"data": Path("urmp"), "time_budget": 90, "seed": -1, "storage": None}) == RunOptions(
        data=Path("urmp"), time_budget=90.0, seed=-1
    )


def test_a_space_is_given_as_a_dictionary():
    space = python_options({"space": SPACE}).space
    assert not isinstance(space, Path)
    assert space.parameters["filters"].choices == (4, 8)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"trials": 0}, "trials: '0', expected a whole number of at least 1"),
        ({"trials": 2.5}, "trials: '2.5', expected a whole number"),
        ({"workers": True}, "workers: expected another value, found True"),
        ({"accept_changes": "yes"}, "accept_changes: expected True or False, found 'yes'"),
        ({"instruments": ["vn", "kazoo"]}, "instruments: unknown instrument 'kazoo'"),
        ({"time_budget": "soon"}, "time_budget: 'soon', expected a time such as 90s"),
        ({"space": {"parameters": {"filtrs": [4]}}}, r"space: .*did you mean filters\?"),
        ({"space": 3}, "space: expected a name, a path or a dictionary, found int"),
        ({"accept_changes": True}, "accept_changes=True: expected with sepsearch.resume"),
    ],
)
def test_a_mistake_in_an_argument_is_one_line_that_names_the_argument(values, problem):
    with pytest.raises(UserError, match=problem) as caught:
        python_options(values)
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_messages_name_pythons_arguments_and_leave_commands_as_they_are():
    assert python_names("x: choose another --name, or go on with --resume") == (
        "x: choose another name, or go on with sepsearch.resume"
    )
    assert python_names("lower --gpus-per-trial") == "lower gpus_per_trial"
    assert python_names("to go on then: .venv/bin/python -m sepsearch.run --resume x --runs y") == (
        "to go on then: .venv/bin/python -m sepsearch.run --resume x --runs y"
    )


def test_output_loggers_and_errors_are_as_before_after_a_call(capsys):
    logger = logging.getLogger("of a library")
    logger.setLevel(logging.INFO)
    before = dict(vars(OUTPUT))

    def call():
        with python_caller(quiet=True) as console:
            logger.setLevel(logging.CRITICAL)
            write_note("a note")
            console.print("a line")
            raise UserError("--trials 1: too few")

    with pytest.raises(UserError, match=r"^trials 1: too few$"):
        call()
    assert vars(OUTPUT) == before
    assert logger.level == logging.INFO
    assert capsys.readouterr() == ("", "")


def test_every_function_gets_a_copy_of_every_event_of_its_own():
    def spoil(event):
        event["members"].clear()

    seen: list = []
    event = {"event": "epoch", "id": "t0000", "epoch": 1, "ratio": 0.5, "members": [{"instrument": "vn"}]}
    callbacks = Callbacks([spoil, seen.append])
    callbacks.handle(event)
    assert seen == [event]
    assert event["members"] == [{"instrument": "vn"}]
    callbacks.raise_late()


def test_an_exception_in_a_function_is_a_user_error_and_no_function_is_called_any_more():
    def fragile(event):
        seen.append(event["event"])
        raise ValueError("too\nbad")

    seen: list = []
    callbacks = Callbacks([fragile, seen.append])
    with pytest.raises(UserError, match=r"callback .*fragile raised ValueError: too at event 'trial': correct it"):
        callbacks.handle({"event": "trial", "id": "t0000", "params": {}})
    callbacks.handle({"event": "end", "state": "failed"})
    assert seen == ["trial"]


def test_an_exception_at_the_last_event_is_raised_once_the_run_has_ended():
    callbacks = Callbacks([lambda event: {}["missing"]])
    callbacks.handle({"event": "end", "state": "finished"})
    with pytest.raises(UserError, match="raised KeyError: 'missing' at event 'end'"):
        callbacks.raise_late()


def test_a_second_search_in_a_process_is_refused_while_the_first_one_goes_on(tmp_path):
    with python_search._ONE_SEARCH, pytest.raises(UserError, match="carries out another search already"):
        ss.search(SPACE, runs=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_function_is_refused_before_anything_begins(tmp_path):
    with pytest.raises(UserError, match=r"callbacks\[0\]: expected a function of one event, found 3"):
        ss.search(SPACE, runs=tmp_path, callbacks=[3])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def asked(monkeypatch):
    """Options of searches that are begun, and not carried out."""
    found = []

    def carry_out(options, console, listeners):
        found.append(options)
        raise UserError("not carried out")

    monkeypatch.setattr(python_search, "carry_out", carry_out)
    return found


def test_a_network_that_is_handed_over_can_be_named_by_the_space(asked, monkeypatch):
    @dataclass(frozen=True)
    class LevelConfig:
        family: ClassVar[str] = "level_of_a_test"
        fixed_size: ClassVar[bool] = False
        level: float = 0.5

    class Level(nn.Module):
        def __init__(self, config: LevelConfig, outputs: int = 1):
            super().__init__()
            self.weight = nn.Parameter(torch.full((outputs, 1, 1, 1), config.level))

        def forward(self, mixture: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(mixture, self.weight)

    monkeypatch.setattr(plugins, "_registered", {})
    space = {"family": "level_of_a_test", "parameters": {"level": [0.25, 0.5]}}
    with pytest.raises(UserError, match="not carried out"):
        ss.search(space, families=[Family(LevelConfig, Level, {"weight": 0})], warm_start=["first", "second"])
    assert asked[0].space.parameters["level"].choices == (0.25, 0.5)
    assert asked[0].warm_start == ("first", "second")


def test_one_network_without_its_list_is_a_mistake_in_one_line(asked):
    with pytest.raises(UserError, match=r"families: expected a list of Family, found .*: write families=\[…\]"):
        ss.resume("urmp", families=Family(type(None), None, {}))
    assert asked == []


def test_a_finished_run_is_extended_by_its_name_and_the_number_of_its_trials(asked):
    with pytest.raises(UserError, match="not carried out"):
        ss.extend("urmp", trials=300, on_event="end:notify-send")
    assert (asked[0].continued, asked[0].trials, list(asked[0].on_event)) == ("urmp", 300, ["end:notify-send"])
