"""What a person reads while a search runs, where there is no terminal."""

from io import StringIO

from event_fixtures import search_event, state_of

from sepsearch.monitoring.console import Screen
from sepsearch.utils.terminal_console import LiteralConsole

TRIALS = ("t0000", "t0001", "t0002")


def printed(*events: dict) -> list[str]:
    """What the screen prints of events of a search of three trials, of two epochs at most."""
    run = state_of([{"event": "search", **search_event()[1]}, *({"event": "trial", "id": id} for id in TRIALS)])
    console = LiteralConsole(file=StringIO(), width=200)
    screen = Screen(console, run)
    screen.begin("search")
    for number, event in enumerate(events):
        whole = {"time": 2000.0 + number, "members": [], **event}
        run.handle(whole)
        screen.handle(whole)
    screen.close()
    return console.file.getvalue().splitlines()


def test_every_trial_that_ends_is_one_line_with_its_ratio_reason_and_the_best_so_far():
    lines = printed(
        {"event": "epoch", "id": "t0000", "epoch": 2, "ratio": 0.5},
        {"event": "trial_end", "id": "t0000", "state": "completed", "reason": "", "epochs": 2},
        {"event": "epoch", "id": "t0001", "epoch": 1, "ratio": 0.4},
        {"event": "trial_end", "id": "t0001", "state": "stopped", "reason": "stopped at rung 1", "epochs": 1},
        {"event": "trial_end", "id": "t0002", "state": "failed", "reason": "NaN: [the] loss", "epochs": 0},
    )
    assert len(lines) == 3
    assert "t0000   ratio 0.500 after 2 epochs, completed; best 0.500 (t0000); 1 of 3 done, about" in lines[0]
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
