"""What a person reads while a search runs, where there is no terminal."""

import re
from io import StringIO

from event_fixtures import search_event, state_of

from sepsearch.monitoring.console import Screen
from sepsearch.utils.terminal_console import LiteralConsole

TRIALS = ("t0000", "t0001", "t0002")


def printed(*events: dict) -> list[str]:
    """What the screen prints of events of a search of three trials, of two epochs at most, after its first line."""
    run = state_of([{"event": "search", **search_event()[1]}, *({"event": "trial", "id": id} for id in TRIALS)])
    console = LiteralConsole(file=StringIO(), width=200)
    screen = Screen(console, run)
    screen.begin("search")
    for number, event in enumerate(events):
        whole = {"time": 2000.0 + number, "members": [], **event}
        run.handle(whole)
        screen.handle(whole)
    screen.close()
    first, *lines = console.file.getvalue().splitlines()
    assert first == "searching: 3 trials of at most 2 epochs"
    return lines


def test_a_paused_trial_is_a_line_with_its_ratio_and_rung():
    lines = printed(
        {"event": "epoch", "id": "t0001", "epoch": 1, "ratio": 0.4}, {"event": "paused", "id": "t0001", "rung": 1}
    )
    assert lines == ["t0001   ratio 0.400 after 1 epoch, paused at rung 1"]


def test_every_trial_that_ends_is_one_line_with_its_ratio_reason_and_the_best_so_far():
    lines = printed(
        {"event": "epoch", "id": "t0000", "epoch": 2, "ratio": 0.5},
        {"event": "trial_end", "id": "t0000", "state": "completed", "reason": "", "epochs": 2},
        {"event": "epoch", "id": "t0001", "epoch": 1, "ratio": 0.4},
        {"event": "trial_end", "id": "t0001", "state": "stopped", "reason": "stopped at rung 1", "epochs": 1},
        {"event": "trial_end", "id": "t0002", "state": "failed", "reason": "NaN: [the] loss", "epochs": 0},
    )
    assert len(lines) == 3
    assert "t0000   ratio 0.500 after 2 epochs, completed; best 0.500 (t0000); 1 of 3 done; about" in lines[0]
    assert "stopped at rung 1; best 0.500 (t0000)" in lines[1]
    assert lines[2].startswith("t0002   ratio – after 0 epochs, failed: NaN: [the] loss; best 0.500")
    assert lines[2].endswith("3 of 3 done")


def test_an_early_ratio_of_a_stopped_trial_is_never_the_best():
    (line,) = printed(
        {"event": "epoch", "id": "t0001", "epoch": 1, "ratio": 0.1},
        {"event": "trial_end", "id": "t0001", "state": "stopped", "reason": "stopped at rung 1", "epochs": 1},
    )
    assert "best" not in line


def test_a_reason_is_printed_as_one_line_of_text():
    (line,) = printed(
        {"event": "trial_end", "id": "t0000", "state": "failed", "reason": "\x1b]0;x\x07[/]\nforged", "epochs": 0}
    )
    assert r"failed: \x1b]0;x\x07[/]\nforged" in line


class Time:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def searching(terminal: bool, forecast: float | None = None):
    """Screen of a search of three trials on a console, the state, the clock, and what was printed."""
    run = state_of([{"event": "search", **search_event()[1]}, *({"event": "trial", "id": id} for id in TRIALS)])
    console = LiteralConsole(file=StringIO(), width=160, force_terminal=terminal, legacy_windows=False)
    clock = Time()
    screen = Screen(console, run, forecast, clock)
    screen.begin("search")
    return screen, run, clock, console


def take_in(screen, run, event: dict) -> None:
    whole = {"time": 2000.0, "members": [], **event}
    run.handle(whole)
    screen.handle(whole)


def test_a_log_gets_a_line_with_jobs_and_epochs_after_45_seconds_without_one():
    screen, run, clock, console = searching(terminal=False)
    take_in(screen, run, {"event": "epoch", "id": "t0000", "epoch": 1, "ratio": 0.5})
    clock.now += 44
    screen.tick()
    assert len(console.file.getvalue().splitlines()) == 1
    clock.now += 2
    screen.tick()
    _, line = console.file.getvalue().splitlines()
    assert line.startswith("searching: 0 of 3 trials, 1 of about ")
    assert "t0000 epoch 2 of 2, ratio 0.500" in line
    screen.tick()
    assert len(console.file.getvalue().splitlines()) == 2


def test_a_stage_that_is_over_gets_no_more_lines():
    screen, run, clock, console = searching(terminal=False)
    screen.close()
    clock.now += 46
    take_in(screen, run, {"event": "report", "file": "report.html"})
    assert len(console.file.getvalue().splitlines()) == 1


def test_before_the_first_epoch_the_time_left_is_preflights():
    screen, run, clock, console = searching(terminal=False, forecast=90.0)
    clock.now += 50
    screen.tick()
    assert "about 40 s left by preflight's estimate" in console.file.getvalue()
    take_in(screen, run, {"event": "epoch", "id": "t0000", "epoch": 1, "ratio": 0.5})
    clock.now += 50
    screen.tick()
    last = console.file.getvalue().splitlines()[-1]
    assert "preflight" not in last
    assert re.search(r"about [0-9.]+ \w+ left \(.+ to .+\)$", last)


def test_a_terminal_shows_stage_epochs_running_trials_and_the_best_beside_the_constant_gain():
    screen, run, _, _ = searching(terminal=True)
    take_in(screen, run, {"event": "epoch", "id": "t0000", "epoch": 2, "ratio": 0.5})
    take_in(screen, run, {"event": "trial_end", "id": "t0000", "state": "completed", "reason": "", "epochs": 2})
    take_in(screen, run, {"event": "epoch", "id": "t0001", "epoch": 1, "ratio": 0.7})
    plain = LiteralConsole(file=StringIO(), width=160)
    plain.print(screen._view())
    screen.close()
    text = plain.file.getvalue()
    assert "searching" in text
    assert "1 of 3 trials, 3 of about" in text
    assert "t0001 epoch 2 of 2, ratio 0.700" in text
    assert "best ratio 0.500 (t0000), constant gain" in text


def test_the_live_view_is_renewed_at_most_twice_a_second():
    screen, _, clock, _ = searching(terminal=True)
    views = []
    screen._live.update = views.append
    for _ in range(10):
        clock.now += 0.1
        screen.tick()
    screen.close()
    assert len(views) in (1, 2)


def test_a_search_that_a_rule_ends_says_why_and_what_still_runs():
    (line,) = printed({"event": "search_stopped", "rule": "patience", "reason": "the last 2 trials were no better"})
    assert line == "search over: the last 2 trials were no better; the trials that run go on to their end"


def test_a_search_that_is_stopped_by_hand_is_told_by_who_handles_the_request():
    assert printed({"event": "search_stopped", "rule": "by hand", "reason": "search stopped by hand"}) == []
