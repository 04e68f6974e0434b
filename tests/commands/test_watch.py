"""`sepsearch.watch`: what it shows of a run at any moment, how it follows one, and what it never does."""

import io
import os
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from event_fixtures import (
    PARAMS,
    epoch_event,
    interrupted_story,
    journal,
    members,
    search_event,
    story,
    until,
    write_run,
)
from rich.console import Console

from sepsearch.monitoring.follow import Watched, watch
from sepsearch.monitoring.terminal import Hints, make_view
from sepsearch.runs.state import RunState
from sepsearch.search.events import Event
from sepsearch.search.journal import Journal
from sepsearch.search.stopping.asha import Rungs
from sepsearch.utils.errors import UserError
from sepsearch.watch import main

HINTS = Hints("RESUME", ["PAGE"])


def tally_of(events: list[Event]) -> RunState:
    run = RunState()
    for event in events:
        run.handle(event)
    return run


def shown(events: list[Event], width: int = 100, later: float = 1.0, height: int = 200, terminal: bool = False) -> str:
    """What is seen some seconds after the last event."""
    run = tally_of(events)
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=terminal, highlight=False)
    console.print(make_view(run, run.last + later, HINTS, console, fit=terminal))
    return console.file.getvalue()


def write_lines(path: Path, events: list[Event], *, whole: bool = True) -> None:
    """Add events to a journal, as another process does it; the last one half if it is not to be `whole`."""
    before = path.read_bytes() if path.exists() else b""
    log = Journal(path, resume=path.exists())
    for event in events:
        log.append(event)
    log.close()
    if not whole:
        os.truncate(path, (len(before) + path.stat().st_size) // 2)


# What is seen


def test_a_running_search_shows_states_the_best_and_what_runs():
    text = shown(until(journal(story()), "epoch", "t0001"))
    assert text.startswith("duets  searching for ")
    assert "1 of 3 · 1 waiting · 1 running · 1 completed" in text
    assert "0.250 ratio of t0000 after 2 epochs" in text
    assert any(line.split() == ["t0001", "1", "2", "0.500"] for line in text.splitlines())
    assert "epochs/s" in text or "an epoch every" in text
    assert "left for the trials" in text


def test_every_instruments_best_stands_beside_a_constant_gain_and_the_reports_network():
    kind, begin = search_event()
    begin["baselines"] = {"validation": {"identity": {"vn": 1.0, "vc": 2.0}, "gain": {"vn": 0.5, "vc": 1.5}}}
    others = [("trial", {"id": "t0001", "params": PARAMS})]
    both = [{**members(2)[0], "ratio": 0.125}, {**members(2)[1], "ratio": 0.75}]
    first = [
        event for event in story() if event[1].get("id") == "t0000" and event[0] in ("trial", "epoch", "trial_end")
    ]
    end = ("trial_end", {"id": "t0001", "state": "completed", "reason": "", "epochs": 2})
    text = shown(journal([(kind, begin), *first, *others, epoch_event("epoch", "t0001", 2, both), end]))
    rows = {
        line.split()[0].strip("*"): line.split()[1:]
        for line in text.splitlines()
        if line.startswith(("violin", "cello"))
    }
    assert rows["violin"] == ["0.125", "t0001", "0.500", "0.250", "1.0000"]
    assert rows["cello"] == ["0.250", "t0000", "0.750", "0.250", "2.0000"]


def test_an_instrument_with_a_caveat_is_marked_wherever_its_score_is_shown():
    events = journal(story())
    for moment in (until(events, "trial_end", "t0001"), until(events, "final_end", "c0-s0"), events):
        text = shown(moment)
        assert "cello*" in text
        assert "violin " in text
        assert "* cello: one title only" in text


def test_an_early_ratio_is_never_the_best():
    events = journal([search_event(), ("trial", {"id": "t0000", "params": PARAMS}), epoch_event("epoch", "t0000", 1)])
    assert "no trial has come to the end of its 2 epochs yet" in shown(events)


def test_finalists_show_mean_and_spread_over_the_seeds_that_are_done():
    events = journal(story())
    ends = [number for number, event in enumerate(events) if event["event"] == "final_end"]
    one, two = shown(events[: ends[0] + 1]), shown(events[: ends[1] + 1])
    assert any(line.split()[1:4] == ["0.500", "1", "c0"] for line in one.splitlines() if line.startswith("violin "))
    assert "0.500 ± 0.000" in two
    assert "2 of 2 · 2 completed" in two
    assert "scoring the chosen models" in two


def test_a_finished_run_shows_the_final_models_and_where_everything_is():
    text = shown(journal(story()))
    assert "finished after" in text
    assert "Final models" in text
    assert "PAGE" in text
    assert "RESUME" not in text
    assert "left for" not in text


def test_an_interrupted_run_says_how_to_go_on():
    text = shown(until(journal(interrupted_story()), "end"))
    assert "interrupted" in text
    assert "to go on: RESUME" in text


def test_a_resumed_run_is_at_work_since_it_was_resumed():
    events = until(journal(interrupted_story()), "resume")
    for event in events[events.index(next(e for e in events if e["event"] == "end")) + 1 :]:
        event["time"] += 3600.0
    assert "searching for 2.0 s, begun 60 min ago" in shown(events, later=2.0)


def test_a_run_that_nobody_writes_to_is_not_said_to_be_at_work():
    events = until(journal(story()), "epoch", "t0001")
    text = " ".join(shown(events, later=600).split())
    assert "nothing was written for 10 min: its process may be gone" in text
    assert "RESUME" in text
    assert "left for" not in text


def test_epochs_that_take_long_are_waited_for():
    events = until(journal(story()), "epoch", "t0001")
    events[-1]["seconds"] = 900.0
    assert "nothing was written" not in shown(events, later=600)


def test_failures_and_dead_workers_are_named():
    text = shown(journal(story()))
    assert "1 failed" in text
    assert "NaN: the training loss of vn is nan in epoch 2" in text
    text = shown(journal(interrupted_story()))
    assert "1 went on after a worker's death" in text
    assert "worker died; goes on after epoch 0" in text


@pytest.mark.parametrize("width", [40, 80, 116, 160])
def test_no_word_of_a_reason_is_lost_where_lines_break(width):
    reason = "dead: the network of vn puts out nothing but zeros in epoch 1, which nobody had expected of it at all"
    events = until(journal(story()), "trial_end", "t0002")
    events[-1]["reason"] = reason
    lines = without_colours(shown(events, width, terminal=True)).replace(r"\[", "[").splitlines()
    first = next(number for number, line in enumerate(lines) if "dead:" in line)
    column = lines[first].index("dead:")
    assert " ".join(" ".join(line[column:] for line in lines[first:]).split()).startswith(reason)


def test_a_journal_that_is_empty_has_not_begun():
    assert "has not begun" in shown([])


def test_control_characters_of_a_journal_do_not_reach_the_terminal():
    events = until(journal(story()), "trial_end", "t0002")
    events[-1]["reason"] = "bad\x1b[2J\rnews [bold]"
    text = shown(events)
    assert "\x1b" not in text
    assert "news [bold]" in text


@pytest.mark.parametrize("width", [20, 60, 80, 110, 160])
def test_no_line_is_wider_than_the_terminal_and_no_view_higher(width):
    events = journal(story())
    for number in (2, 6, 10, 13, 17, len(events)):
        for height in (12, 24):
            lines = shown(events[:number], width, height=height, terminal=True).splitlines()
            plain = [Console(width=500).render_str(line).plain for line in map(without_colours, lines)]
            assert max(map(len, plain)) <= width
            assert len(plain) <= max(height, least(events[:number], width))


def without_colours(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).replace("[", r"\[")


def least(events: list[Event], width: int) -> int:
    """Lines of what is never left out."""
    return len(shown(events, width, height=1, terminal=True).splitlines())


# What it is made from


def test_the_cut_off_of_a_rung_is_what_the_search_judges_by():
    rng, run, rungs = random.Random(0), RunState(), Rungs(1, 3, 9)
    kind, begin = search_event()
    begin["settings"] = {"trials": 40, "epochs": 9, "reduction_factor": 3}
    run.handle(journal([(kind, begin)])[0])
    judged = 0
    for number in range(40):
        id, ratio = f"t{number:04d}", rng.random()
        for event in journal([("trial", {"id": id, "params": {}}), epoch_event("epoch", id, 1)]):
            run.handle({**event, **({"ratio": ratio} if "ratio" in event else {})})
        stops, cutoff = rungs.report(id, 1, ratio) is not None, run.cutoff(1)
        assert stops == (cutoff is not None and ratio > cutoff)
        judged += stops
    assert judged > 10


def test_what_is_left_goes_down_to_nothing_as_trials_end():
    events = journal(story())
    ends = [number for number, event in enumerate(events) if event["event"] == "trial_end"]
    left = [tally_of(events[: end + 1]).remaining(events[end]["time"]) for end in ends]
    assert [stage for stage, _ in left] == sorted((stage for stage, _ in left), reverse=True)
    assert left[0][0] > 0 == left[-1][0]


def test_a_time_budget_ends_the_search_earlier():
    kind, begin = search_event()
    begin["settings"] = {"trials": 1000, "epochs": 2, "options": {"time_budget": 10.0}}
    events = journal([(kind, begin), ("trial", {"id": "t0000", "params": {}}), epoch_event("epoch", "t0000", 1)])
    stage, _ = tally_of(events).remaining(events[-1]["time"])
    assert stage == pytest.approx(10.0 - 2.0)


def test_a_hand_made_event_is_one_line():
    events = until(journal(story()), "epoch")
    with pytest.raises(UserError, match="an event epoch does not hold what a run writes"):
        tally_of([*events, {"event": "epoch", "id": "t0000", "epoch": 2, "ratio": 1.0, "members": [3]}])


# Following


def follow(folder: Path, *steps: Callable[[], Any]) -> tuple[Watched, str]:
    """Watch a run on a terminal; before each look one of the steps is done."""
    waiting = list(steps)

    def refresh() -> Path:
        if waiting:
            waiting.pop(0)()
        return folder / "journal.jsonl"

    console = Console(file=io.StringIO(), width=100, height=60, force_terminal=True, highlight=False)
    watched = Watched(refresh)
    watch(watched, lambda: HINTS, console, 0.0, once=False)
    assert not waiting
    return watched, console.file.getvalue()


def test_it_follows_a_run_and_leaves_when_that_has_ended(tmp_path):
    events, path = journal(story()), tmp_path / "journal.jsonl"
    steps = [lambda part=events[n : n + 4]: write_lines(path, part) for n in range(0, len(events), 4)]
    watched, text = follow(tmp_path, *steps)
    assert watched.run.end == "finished"
    last = without_colours(text)
    assert "searching" in last
    assert "finished after" in last
    assert text.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in text, "the cursor is back"


def test_looks_in_between_come_to_what_one_look_comes_to(tmp_path):
    events, path = journal(interrupted_story()), tmp_path / "journal.jsonl"
    watched = Watched(lambda: path)
    for event in events:
        write_lines(path, [event])
        watched.look()
        watched.look()
    one = tally_of(events)
    for name in ("end", "stage", "last", "running", "ended", "begun", "best", "best_of", "failures", "deaths"):
        assert getattr(watched.run, name) == getattr(one, name)
    assert watched.run.rungs.values == one.rungs.values


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path):
    events, path = until(journal(story()), "epoch"), tmp_path / "journal.jsonl"
    write_lines(path, events[:2])
    whole = path.read_bytes()
    write_lines(path, events[2:3])
    all_of_it = path.read_bytes()
    path.write_bytes(all_of_it[: len(whole) + 40])
    watched = Watched(lambda: path)
    watched.look()
    assert watched.run.running["t0000"].epochs == 0
    path.write_bytes(all_of_it)
    watched.look()
    assert watched.run.running["t0000"].epochs == 1


def test_a_damaged_journal_is_one_line_that_names_the_place(tmp_path):
    path = write_run(tmp_path, journal(story())) / "journal.jsonl"
    damaged = path.read_bytes().replace(b'"epoch":2', b'"epoch":3', 1)
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"journal.jsonl:4: damaged line"):
        Watched(lambda: path).look()


def test_a_journal_that_became_shorter_is_one_line(tmp_path):
    path = write_run(tmp_path, journal(story())) / "journal.jsonl"
    watched = Watched(lambda: path)
    watched.look()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="shorter than it was"):
        watched.look()


def test_a_clock_that_is_ahead_of_the_runs_is_seen_through(tmp_path):
    events, path = until(journal(story()), "epoch", "t0001"), tmp_path / "journal.jsonl"
    write_lines(path, events[:3])
    watched = Watched(lambda: path, clock=lambda: events[-1]["time"] + 1000.0)
    watched.look()
    assert watched.run.silence(watched.now)
    write_lines(path, events[3:])
    watched.look()
    assert not watched.run.silence(watched.now)


def test_ctrl_c_leaves_the_terminal_as_it_was(tmp_path):
    write_run(tmp_path, until(journal(story()), "epoch"))
    console = Console(file=io.StringIO(), width=100, height=60, force_terminal=True)
    looks = iter([None])

    def refresh() -> Path:
        if next(looks, "over"):
            raise KeyboardInterrupt
        return tmp_path / "journal.jsonl"

    with pytest.raises(KeyboardInterrupt):
        watch(Watched(refresh), lambda: HINTS, console, 0.0, once=False)
    text = console.file.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_it_reads_beside_the_writer_and_changes_nothing(tmp_path, capsys):
    folder, seen = tmp_path / "runs" / "duets", []
    write_run(folder, journal(story())[:5])
    writer = Journal(folder / "journal.jsonl", resume=True)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    sys.addaudithook(lambda name, of: seen.append((name, of)) if before and name in ("open", "fcntl.flock") else None)
    try:
        main(["duets", "--runs", str(tmp_path / "runs"), "--once"])
        after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
        opened = {(str(of[0]), of[2]) for name, of in seen if name == "open" and str(of[0]).startswith(str(tmp_path))}
        locked = [of for name, of in seen if name == "fcntl.flock"]
        unchanged = after == before
    finally:
        before = {}  # the hook stays for good: from here on it does nothing
        writer.close()
    assert "duets  " in capsys.readouterr().out
    assert [path for path, _ in opened] == [str(folder / "journal.jsonl")]
    assert not [path for path, flags in opened if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)]
    assert unchanged
    assert not locked


def test_without_a_terminal_it_prints_once_without_colours(tmp_path, capsys):
    write_run(tmp_path / "duets", until(journal(story()), "epoch"))
    main(["duets", "--runs", str(tmp_path)])
    text = capsys.readouterr().out
    assert text.count("duets  ") == 1
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["other"], "NAME other: no such run"),
        (["../duets"], "NAME '../duets': expected letters"),
        (["duets", "--every", "0"], "--every '0': expected seconds from 0.2"),
        (["duets", "--every", "soon"], "--every 'soon': expected seconds"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(options, expected, tmp_path):
    write_run(tmp_path / "duets", journal(story()))
    with pytest.raises(UserError) as caught:
        main([*options, "--runs", str(tmp_path)])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
