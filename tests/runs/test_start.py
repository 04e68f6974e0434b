"""How a run begins, anew or again: what is taken over, what is refused, and what the error says."""

import dataclasses
import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from event_fixtures import state_of

from sepsearch.pipeline import driver
from sepsearch.runs.differences import differences
from sepsearch.runs.options import RunOptions, make_parser, parse_arguments
from sepsearch.runs.start import changed_facts, limited_settings, new_journal, new_run, resumed_run, resumed_settings
from sepsearch.search.journal import Journal, read_journal
from sepsearch.spaces.space import load_space, parse_space
from sepsearch.utils.errors import UserError

SPACE = "parameters: {filters: [4, 8]}\nsearch: {trials: 3}\n"
OPTIONS = {
    "data": "/urmp",
    "time_budget": 60.0,
    "workers": 1,
    "cpus_per_trial": 2.0,
    "gpus_per_trial": None,
    "address": "auto",
    "retries": 5,
    "storage": None,
}
FACTS = {
    "space": {"search": {"trials": 3}},
    "settings": {
        "name": "x",
        "seed": 7,
        "trials": 3,
        "epochs": 4,
        "final_epochs": 6,
        "instruments": ["vn"],
        "options": OPTIONS,
    },
    "versions": {"torch": "2.13.0"},
    "dataset": {"source": "/urmp", "fingerprint": "f1"},
    "baselines": {},
    "caveats": {},
}


def begun(tmp_path: Path, *more: tuple[str, dict]) -> None:
    """A run of three trials of which two have begun."""
    folder = tmp_path / "runs" / "x"
    journal = Journal(folder / "journal.jsonl")
    (folder / "space.yaml").write_text(SPACE)
    journal.append({"event": "search", "name": "x", "run": "r1", **FACTS, "reference": "t0000", "seconds": 1.0})
    for unit in ("t0000", "t0001"):
        journal.append({"event": "trial", "id": unit, "params": {}})
    for kind, fields in more:
        journal.append({"event": kind, **fields})
    journal.close()


def arguments(tmp_path: Path, *words: str) -> RunOptions:
    return parse_arguments(["--runs", str(tmp_path / "runs"), *words])


def test_a_run_goes_on_with_the_space_settings_and_options_it_began_with(tmp_path):
    begun(tmp_path)
    begin = resumed_run(arguments(tmp_path, "--resume", "x"))
    assert begin.space.search.trials == 3
    assert begin.options == OPTIONS
    settings = resumed_settings(begin, None)
    assert (settings.seed, settings.trials, settings.epochs, settings.instruments) == (7, 3, 4, ("vn",))


def test_options_that_are_given_anew_hold(tmp_path):
    begun(tmp_path)
    begin = resumed_run(arguments(tmp_path, "--resume", "x", "--workers", "4", "--retries", "0", "--trials", "9"))
    assert (begin.options["workers"], begin.options["retries"], begin.options["address"]) == (4, 0, "auto")
    assert resumed_settings(begin, 9).trials == 9


def test_a_run_has_no_more_trials_than_its_space_has_configurations_and_says_so_in_one_line(tmp_path):
    begun(tmp_path)
    begin = resumed_run(arguments(tmp_path, "--resume", "x", "--trials", "9"))
    settings, note = limited_settings(begin, resumed_settings(begin, 9))
    assert (settings.trials, note) == (
        3,
        "the space holds 2 configurations beside the reference: 3 trials instead of 9",
    )
    assert limited_settings(begin, resumed_settings(begin, None)) == (resumed_settings(begin, None), "")


def test_trials_of_a_space_that_holds_fewer_stay_where_they_have_begun(tmp_path):
    begun(tmp_path, *[("trial", {"id": f"t{number:04d}", "params": {}}) for number in range(2, 6)])
    begin = resumed_run(arguments(tmp_path, "--resume", "x", "--trials", "9"))
    assert limited_settings(begin, resumed_settings(begin, 9))[0].trials == 6
    begin.close()
    journal = Journal(tmp_path / "runs" / "x" / "journal.jsonl", resume=True)
    journal.append({"event": "finalists", "configurations": [], "seconds": 1.0})
    journal.close()
    begin = resumed_run(arguments(tmp_path, "--resume", "x"))
    assert limited_settings(begin, resumed_settings(begin, 9)) == (resumed_settings(begin, 9), "")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--seed", "1"], "--seed: the run was begun with 7, found 1"),
        (["--instruments", "vc"], "--instruments: the run was begun with vn, found vc"),
        (["--max-epochs", "9"], "--max-epochs: trials that have ended"),
        (["--trials", "1"], "--trials 1: 2 have begun already"),
    ],
)
def test_what_makes_a_run_what_it_is_cannot_be_given_anew(words, problem, tmp_path):
    begun(tmp_path)
    with pytest.raises(UserError, match=problem):
        resumed_run(arguments(tmp_path, "--resume", "x", *words))


def test_more_trials_are_refused_once_the_finalists_are_chosen(tmp_path):
    begun(tmp_path, ("finalists", {"configurations": [], "seconds": 1.0}))
    with pytest.raises(UserError, match="--trials: the search is over"):
        resumed_run(arguments(tmp_path, "--resume", "x", "--trials", "9"))


def test_a_run_that_another_process_works_on_is_refused(tmp_path):
    begun(tmp_path)
    at_work = Journal(tmp_path / "runs" / "x" / "journal.jsonl", resume=True)
    with pytest.raises(UserError, match="another process is at work on this run"):
        resumed_run(arguments(tmp_path, "--resume", "x"))
    at_work.close()


def test_after_a_refusal_the_run_is_free_again(tmp_path):
    begun(tmp_path)
    with pytest.raises(UserError):
        resumed_run(arguments(tmp_path, "--resume", "x", "--seed", "1"))
    assert resumed_run(arguments(tmp_path, "--resume", "x")).journal is not None


def test_a_run_that_never_began_is_to_be_started_again(tmp_path):
    folder = tmp_path / "runs" / "x"
    Journal(folder / "journal.jsonl").close()
    (folder / "space.yaml").write_text(SPACE)
    with pytest.raises(UserError, match="killed before it began: start it again"):
        resumed_run(arguments(tmp_path, "--resume", "x"))
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    assert new_run(arguments(tmp_path, "--space", str(space), "--name", "x")).folder == folder


def test_a_run_that_has_begun_is_not_started_again(tmp_path):
    begun(tmp_path)
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    with pytest.raises(UserError, match="go on with --resume"):
        new_run(arguments(tmp_path, "--space", str(space), "--name", "x"))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("space", {"search": {"trials": 12}}, "space file changed since the run began: space.search.trials: 3 → 12"),
        ("dataset", {"source": "/urmp", "fingerprint": "f2"}, r'recordings .* dataset.fingerprint: "f1" → "f2"'),
        ("versions", {"torch": "2.14.0"}, r'versions .* versions.torch: "2.13.0" → "2.14.0"'),
    ],
)
def test_a_change_is_refused_with_the_difference_unless_it_is_accepted(field, value, said, tmp_path):
    begun(tmp_path)
    begin = resumed_run(arguments(tmp_path, "--resume", "x"))
    facts = {**FACTS, field: value}
    with pytest.raises(UserError, match=said) as caught:
        changed_facts(begin, facts, accept=False)
    assert "--accept-changes" in str(caught.value)
    assert changed_facts(begin, facts, accept=True) == {field: value}


def test_recordings_may_have_moved_and_options_may_change(tmp_path):
    begun(tmp_path)
    begin = resumed_run(arguments(tmp_path, "--resume", "x"))
    settings = {**FACTS["settings"], "options": {**OPTIONS, "workers": 8}}
    facts = {**FACTS, "dataset": {"source": "/elsewhere", "fingerprint": "f1"}, "settings": settings}
    assert changed_facts(begin, facts, accept=False) == {"settings": settings}


def test_what_was_accepted_once_is_no_change_the_next_time(tmp_path):
    begun(tmp_path, ("resume", {"units": {}, "changed": {"versions": {"torch": "2.14.0"}}}))
    begin = resumed_run(arguments(tmp_path, "--resume", "x"))
    assert changed_facts(begin, {**FACTS, "versions": {"torch": "2.14.0"}}, accept=False) == {}


def test_differences_name_what_is_new_gone_and_other():
    found = differences({"a": 1, "b": {"c": [1, 2]}, "gone": 0}, {"a": 2, "b": {"c": [1, 3]}, "new": "x"})
    assert found == ["a: 1 → 2", "b.c: [1, 2] → [1, 3]", "gone: 0 → none", 'new: none → "x"']


def test_the_state_has_what_is_unfinished_and_how_long_each_stage_took():
    def event(kind, time, **fields):
        return {"event": kind, "time": 1e9 + time, **fields}

    run = state_of(
        [
            event("search", 0.0, settings={}, space={}),
            event("trial", 10.0, id="t0000"),
            event("epoch", 20.0, id="t0000", epoch=1, ratio=0.5),
            event("trial", 21.0, id="t0001"),
            event("trial_end", 30.0, id="t0000", reason="", state="completed"),
            event("trial_end", 31.0, id="t0001", reason="interrupted", state="stopped"),
            event("end", 32.0, state="interrupted"),
            event("resume", 1000.0, units={"t0001": 0}, changed={}),
            event("epoch", 1008.0, id="t0001", epoch=1, ratio=0.5),
            event("finalists", 1010.0, configurations=[]),
            event("final", 1012.0, id="c0-s1", configuration="c0", seed=1),
            event("final_epoch", 1015.0, id="c0-s1", epoch=1, ratio=0.5),
        ]
    )
    assert run.unfinished() == {"t0001": 1, "c0-s1": 1}
    assert run.seconds("search") == 31.0 + 8.0
    assert run.seconds("finalists") == 5.0
    assert not run.finished


def new(tmp_path, *words):
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    return new_run(arguments(tmp_path, "--space", str(space), "--name", "x", *words))


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("shared", [False, True], ids=["runs", "storage"])
def test_a_name_is_claimed_before_anything_is_spent(shared, tmp_path):
    words = ["--storage", str(tmp_path / "shared")] if shared else []
    first = new(tmp_path, *words)
    with pytest.raises(UserError, match="another process is at work on this run"):
        new(tmp_path, *words)
    first.close()
    new(tmp_path, *words).close()


@pytest.mark.parametrize("shared", [False, True], ids=["runs", "storage"])
def test_a_run_of_the_same_name_that_appears_meanwhile_is_not_removed(shared, tmp_path):
    begin = new(tmp_path, *(["--storage", str(tmp_path / "shared")] if shared else []))
    journal = Journal(begin.folder / "journal.jsonl", lock=SimpleNamespace())  # of a process that no lock held back
    journal.append({"event": "search", "name": "x", "run": "r1", **FACTS, "reference": "t0000", "seconds": 1.0})
    (begin.folder / "models").mkdir()
    (begin.folder / "models" / "vn.safetensors").write_bytes(b"weights")
    before = content(begin.folder)
    with pytest.raises(UserError, match="a run of this name exists"):
        new_journal(begin)
    assert content(begin.folder) == before


def test_a_claimed_name_that_comes_to_nothing_leaves_no_folder(tmp_path):
    new(tmp_path).close()
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_other_files_is_not_taken_for_a_new_run(tmp_path):
    kept = tmp_path / "runs" / "x" / "thesis.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("years of work")
    with pytest.raises(UserError, match="a run of this name exists"):
        new(tmp_path)
    assert kept.read_text() == "years of work"


def test_a_first_event_that_cannot_be_written_leaves_no_end_and_the_name_free(tmp_path, monkeypatch):
    begin = new(tmp_path)
    real = os.write

    def full(file, data):
        if b'"event"' in data[:20]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    def first_event(journal, *others):
        journal.append({"event": "search", "name": "x"})

    tracker = SimpleNamespace(close=lambda: True, handle=lambda event: None)
    monkeypatch.setattr("sepsearch.tracking.tracker.Tracker", lambda **options: tracker)
    monkeypatch.setattr(driver, "_begin_journal", first_event)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UserError, match="No space left on device"):
        driver._record(begin, None, None, {}, None, None, 0.0)
    monkeypatch.undo()
    begin.close()
    assert not (tmp_path / "runs").exists()


def test_a_journal_of_an_older_version_that_holds_an_end_alone_gives_its_name_free(tmp_path):
    journal = Journal(tmp_path / "runs" / "x" / "journal.jsonl")
    journal.append({"event": "end", "state": "failed"})
    journal.close()
    begin = new(tmp_path)
    journal = new_journal(begin)
    assert list(read_journal(journal.path)) == []
    journal.close()
    begin.close()


def test_the_next_start_removes_what_killed_processes_were_writing(tmp_path):
    begun(tmp_path, ("trial_end", {"id": "t0001", "state": "stopped", "reason": "stopped at rung 1", "epochs": 1}))
    folder = tmp_path / "runs" / "x"
    kept = [folder / ".DS_Store", folder / "checkpoints" / "t0000.checkpoint", folder / "checkpoints" / "mark"]
    left = [
        folder / ".results.json.k3f9x_2a.partial",
        folder / "checkpoints" / ".t0000.checkpoint.k3f9x_2a.partial",
        folder / "checkpoints" / "t0001.checkpoint",
        folder / "finalists" / ".c0-s1.partial-k3f9x_2a" / "vn.safetensors",
        folder / ".preflight-0a1b2c3d" / "token",
    ]
    for path in kept + left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    resumed_run(arguments(tmp_path, "--resume", "x")).close()
    assert [path for path in kept if not path.exists()] == []
    assert [path for path in left if path.exists() or (path.parent.name.startswith(".") and path.parent.exists())] == []


def test_a_finished_run_keeps_no_checkpoints(tmp_path):
    begun(tmp_path, ("end", {"state": "finished"}))
    checkpoint = tmp_path / "runs" / "x" / "checkpoints" / "t0000.checkpoint"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"")
    resumed_run(arguments(tmp_path, "--resume", "x")).close()
    assert not checkpoint.parent.exists()


def test_a_damaged_last_line_is_cut_off_on_resume_and_said(tmp_path):
    begun(tmp_path)
    path = tmp_path / "runs" / "x" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-20] + bytes(19) + b"\n")
    begin = resumed_run(arguments(tmp_path, "--resume", "x"))
    assert begin.past.begun["search"] == 1
    assert "the last line was damaged or cut off by a crash" in begin.journal.notice
    begin.close()


def test_what_a_process_killed_before_the_first_event_leaves_does_not_hold_the_name(tmp_path):
    folder = tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    for name in ("space.yaml", "journal.jsonl", ".mlflow.lock", ".journal.jsonl.lock", ".space.yaml.k3f9x_2a.partial"):
        (folder / name).write_text("")
    (folder / "ray" / "jobs").mkdir(parents=True)  # Ray Tune's, which starts before the run begins
    begin = new(tmp_path)
    new_journal(begin).close()
    left = [".journal.jsonl.lock", ".mlflow.lock", "journal.jsonl", "ray"]
    assert sorted(path.name for path in folder.iterdir()) == left
    begin.close()


def test_a_space_without_a_file_is_written_as_the_runs_space_file(tmp_path):
    given = parse_space({"parameters": {"filters": [4, 8]}, "search": {"trials": 3}}, "the space")
    begin = new_run(RunOptions(space=given, runs=tmp_path / "runs", name="x"))
    driver._keep_space_file(begin)
    assert load_space(begin.folder / "space.yaml") == given
    begin.close()


def test_a_run_of_a_space_without_a_file_and_a_name_is_named_by_the_time(tmp_path):
    given = parse_space({"parameters": {"filters": [4, 8]}}, "the space")
    begin = new_run(RunOptions(space=given, runs=tmp_path / "runs"))
    begin.close()
    assert re.fullmatch(r"search-\d{8}-\d{6}", begin.name)


def test_every_option_of_the_command_line_is_a_field_of_the_options():
    general = {"help", "version", "quiet", "verbose", "json"}
    words = {action.dest for action in make_parser()._actions} - general
    assert words == {field.name for field in dataclasses.fields(RunOptions)}
    assert parse_arguments([]) == RunOptions()
