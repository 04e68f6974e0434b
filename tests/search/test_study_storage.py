"""The study's file, and the window through which samplers see a long search."""

import json
import random
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.sampling.study_storage import LogFile, SamplerView, StudyLog
from sepsearch.spaces.space import load_space
from sepsearch.utils.errors import UserError

SPACE = Path(__file__).parents[2] / "search_spaces" / "detector.yaml"


def search(trials: int, window: tuple[int, int] | None, at_once: int = 3) -> tuple[list[dict], Sampler, list[int]]:
    """What is asked for in a search whose values are drawn by lot, and how many trials were looked at for each."""
    sampler = Sampler(load_space(SPACE), None, "x", seed=0, window=window)
    lot, asked, live, looked = random.Random(0), [], [], []
    for number in range(trials):
        before = sampler.study._storage.seen
        asked.append(sampler.ask(f"t{number}"))
        looked.append(sampler.study._storage.seen - before)
        live.append(number)
        if len(live) == at_once:
            unit = f"t{live.pop(0)}"
            sampler.report(unit, 1, lot.random())
            sampler.tell(unit, lot.choice(["completed", "stopped", "failed"]), lot.random())
    return asked, sampler, looked


def test_a_search_that_fits_into_the_window_asks_for_what_one_without_a_window_does():
    assert search(40, (10, 40))[0] == search(40, (0, 10_000))[0]


def test_a_smaller_window_asks_for_something_else_so_it_is_in_use():
    assert search(40, (2, 15))[0] != search(40, (0, 10_000))[0]


def test_a_long_search_looks_at_no_more_trials_for_its_last_ones_than_for_those_before():
    _, _, looked = search(120, (3, 8))
    assert max(looked[90:]) <= max(looked[45:90])
    assert max(looked[90:]) > max(looked[:5])


def ended(log: StudyLog, values: list[float | None]) -> list[int]:
    """Numbers of the trials of a study that samplers see, trials having ended with these values (None: pruned)."""
    study = optuna.create_study(storage=log)
    for value in values:
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, intermediate_values={1: 0.5}))
    return [trial.number for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))]


def test_the_best_and_the_latest_are_seen():
    assert ended(StudyLog(None, 2, 3), [0.9, 0.1, 0.5, 0.2, 0.9, 0.8, 0.7, 0.6]) == [1, 3, 5, 6, 7]


def test_pruned_trials_are_behind_all_that_ended():
    assert ended(StudyLog(None, 2, 1), [None, 0.9, None, 0.8, None, None]) == [1, 3, 5]


def test_which_trials_are_seen_does_not_depend_on_the_order_in_which_they_ended():
    seen = []
    for seed in range(4):
        study = optuna.create_study(storage=StudyLog(None, 3, 4))
        trials = [study.ask() for _ in range(12)]
        random.Random(seed).shuffle(trials)
        for trial in trials:
            study.tell(trial, (trial.number * 7) % 12)
        seen.append([trial.number for trial in study.trials])
    assert seen[0] == [0, 2, 7, 8, 9, 10, 11]  # 0, 7 and 2 have the values 0, 1 and 2
    assert all(other == seen[0] for other in seen)


def test_trials_that_run_are_always_seen_with_their_own_parameters_alone():
    log = StudyLog(None, 1, 1)
    study = optuna.create_study(storage=log)
    running = [study.ask() for _ in range(5)]
    running[2].suggest_float("x", 0, 1)
    study._storage.set_trial_system_attr(running[2]._trial_id, "tpe:relative_params:0", json.dumps({"x": 9, "y": 0.5}))
    seen = optuna.Study(study.study_name, SamplerView(log)).get_trials(states=(TrialState.RUNNING,))
    assert [trial.number for trial in seen] == [0, 1, 2, 3, 4]
    assert seen[2].params == running[2].params  # a restart does not know the others
    assert seen[2].system_attrs == {}  # where TPE would look for them
    assert study.trials[2].params == running[2].params  # to people it is what it is


def test_optunas_own_storage_opens_the_file_and_finds_all_trials(tmp_path):
    path = tmp_path / "study.log"
    study = optuna.create_study(storage=StudyLog(path, 1, 2), study_name="x")
    for number in range(9):
        trial = study.ask()
        trial.suggest_categorical("c", ["a", "b"])
        trial.report(0.5, 1)
        trial.set_user_attr("reason", "why")
        study.tell(trial, number)
    stored = optuna.load_study(study_name="x", storage=JournalStorage(JournalFileBackend(str(path)))).trials
    assert [trial.value for trial in stored] == list(range(9))
    assert all(trial.params and trial.intermediate_values == {1: 0.5} for trial in stored)
    assert len(study.trials) == 3


def test_a_full_disk_is_one_line():
    with pytest.raises(UserError, match=r"/dev/full: cannot be written: No space left on device: free some space"):
        LogFile(Path("/dev/full")).append_logs([{"op_code": 0}])


def test_a_study_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "study.log").mkdir()
    with pytest.raises(UserError, match=r"study\.log: cannot be written: Is a directory"):
        LogFile(tmp_path / "study.log")
