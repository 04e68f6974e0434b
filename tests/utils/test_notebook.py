"""Progress in a notebook: what its area of a cell's output shows, and that there is none elsewhere."""

from io import StringIO

import pytest
from event_fixtures import search_event, state_of

from sepsearch.monitoring import console as console_module
from sepsearch.monitoring.console import Screen
from sepsearch.utils import notebook, progress, terminal_console
from sepsearch.utils.output import OUTPUT
from sepsearch.utils.progress import Progress
from sepsearch.utils.terminal_console import LiteralConsole, make_console


@pytest.fixture
def shown(monkeypatch):
    """What areas show, in a process that takes itself for a notebook's kernel."""
    found: list[str] = []
    for module in (console_module, progress, terminal_console):
        monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr(notebook.NotebookArea, "show", lambda area, html: found.append(html))
    return found


def test_a_process_without_a_kernel_is_no_notebook():
    assert not notebook.in_notebook()


def test_stages_of_long_work_are_bars_and_then_lines(shown, capsys):
    clock = iter(range(0, 100, 10))
    with Progress(clock=lambda: next(clock)) as report:
        report("<reading>", 0, 2)
        report("<reading>", 1, 2)
        report("<reading>", 2, 2)
        report("starting", 1, 1)
    assert shown[0] == '<progress value="0" max="2"></progress> &lt;reading&gt; 0 of 2'
    assert shown[-1] == "&lt;reading&gt; 2 of 2 · 20 s\nstarting"
    assert capsys.readouterr() == ("", "")


def test_with_quiet_nothing_is_shown(shown, monkeypatch):
    monkeypatch.setattr(OUTPUT, "quiet", True)
    with Progress() as report:
        report("reading", 0, 2)
    assert shown == []


def test_lines_are_printed_on_standard_output_which_a_notebook_does_not_show_as_an_error(shown, capsys):
    make_console(error=True).print("a note")
    assert capsys.readouterr() == ("a note\n", "")


def test_a_search_is_shown_in_one_place_and_only_trials_that_fail_have_lines(shown):
    run = state_of([{"event": "search", **search_event()[1]}, *({"event": "trial", "id": id} for id in ("a", "b"))])
    console = LiteralConsole(file=StringIO(), width=200)
    time = iter(range(100))
    screen = Screen(console, run, clock=lambda: next(time))
    screen.begin("search")
    for event in (
        {"event": "epoch", "id": "a", "epoch": 2, "ratio": 0.5},
        {"event": "trial_end", "id": "a", "state": "completed", "reason": "", "epochs": 2},
        {"event": "trial_end", "id": "b", "state": "failed", "reason": "NaN: <b>", "epochs": 0},
    ):
        whole = {"time": 2000.0, "members": [], **event}
        run.handle(whole)
        screen.handle(whole)
    assert shown[1].startswith('<progress value="2" max="')
    assert "running: a epoch 3 of 2, ratio 0.500   b epoch 1 of 2" in shown[1]
    screen.close()
    assert "<progress" not in shown[-1]
    assert "2 of 3 trials, 2 of about" in shown[-1]
    assert shown[-1].endswith("best ratio 0.500 (a), constant gain –")
    assert console.file.getvalue().splitlines() == [
        "searching: 3 trials of at most 2 epochs",
        "b       ratio – after 0 epochs, failed: NaN: <b>; best 0.500 (a)",
    ]
