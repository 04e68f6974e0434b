"""A search that ended before its last trial: what results, watch, MLflow, the run report and the screen say of it."""

import io

from event_fixtures import journal, story
from rich.console import Console

from sepsearch.monitoring.run_facts import run_facts
from sepsearch.monitoring.terminal import Hints, make_view
from sepsearch.reporting.run_data import gather_facts
from sepsearch.reporting.text import lead
from sepsearch.runs.results import build_results
from sepsearch.runs.state import RunState, reduce_events
from sepsearch.search.events import Event
from sepsearch.search.journal import Journal, read_run
from sepsearch.tracking.mapping import Projection
from sepsearch.tracking.records import PARENT

REASON = "the last 2 trials have not improved the best ratio by 0.5 %"
STOPPED = ("search_stopped", {"rule": "patience", "reason": REASON})


def stopped_story() -> list[Event]:
    """The story of a search that a rule has ended."""
    told = list(story())
    before = next(place for place, (kind, _) in enumerate(told) if kind == "finalists")
    return journal([*told[:before], STOPPED, *told[before:]])


def state(events: list[Event]) -> RunState:
    return reduce_events(events, history=True)


def test_results_have_the_rule_and_the_reason_or_null():
    assert build_results(state(journal(story())))["stopped"] is None
    assert build_results(state(stopped_story()))["stopped"] == {"rule": "patience", "reason": REASON}


def test_watch_has_the_reason_as_json_and_as_text():
    run = state(stopped_story())
    assert run_facts(run, run.last, "")["stopped"] == {"rule": "patience", "reason": REASON}
    console = Console(file=io.StringIO(), width=120)
    console.print(make_view(run, run.last, Hints("RESUME", []), console))
    assert REASON in console.file.getvalue()


def test_no_trial_is_waited_for_once_the_search_is_stopped():
    events = stopped_story()
    events = events[: next(place for place, event in enumerate(events) if event["event"] == "search_stopped")]
    before = {**events[0], "settings": {**events[0]["settings"], "trials": 30}}
    run = state([before, *events[1:]])
    assert run.states("search")["waiting"] == 27
    run.handle({**STOPPED[1], "event": "search_stopped", "time": 2000.0})
    assert run.states("search")["waiting"] == 0


def test_mlflow_has_the_reason_as_a_tag_of_the_search():
    told = Projection()
    for event in stopped_story():
        told.apply(event)
    assert told.work[PARENT].tags["stopped"] == f"patience: {REASON}"


def test_the_run_report_says_why_the_search_ended(tmp_path):
    log = Journal(tmp_path / "journal.jsonl")
    for event in stopped_story():
        log.append(event)
    log.close()
    assert f"The search ended before its last trial: {REASON}." in " ".join(lead(gather_facts(tmp_path)))
    assert len(list(read_run(log.path))) == len(stopped_story())
