"""Sizes, speeds and constraints in the state of a run, in results.json and in what `watch` shows."""

import json
from io import StringIO

from event_fixtures import journal, until
from rich.console import Console
from sized_story import REASON, sized_story

from sepsearch.monitoring.final_table import final_table
from sepsearch.monitoring.run_facts import limits_line, run_facts
from sepsearch.monitoring.terminal import Hints, make_view
from sepsearch.runs.results import build_results
from sepsearch.runs.state import reduce_events


def test_results_have_size_and_speed_of_trials_finalists_and_final_models():
    results = build_results(reduce_events(journal(sized_story())))
    trials = {one["id"]: (one["parameters"], one["examples_per_second"]) for one in results["trials"]}
    assert trials["t0003"] == (20_000, 8.0)
    assert trials["t0001"] == (40_000, 79.0)
    assert [one["parameters"] for one in results["finalists"]] == [60_000, 54_658]
    assert [bool(one["infeasible"]) for one in results["finalists"]] == [False, True]
    assert results["final"]["vn"]["choice_reason"] == REASON
    json.dumps(results, allow_nan=False)


def test_a_trial_that_violates_a_constraint_is_never_the_best():
    state = reduce_events(journal(sized_story()))
    assert state.best is not None
    assert state.best.id == "t0001"
    assert {trial for _, trial in state.best_of.values()} == {"t0001"}


def test_the_state_counts_proposals_that_were_too_large_and_trials_that_were_too_slow():
    state = reduce_events(journal(sized_story()))
    assert (state.too_large, state.infeasible) == (1, 1)
    assert state.states("search")["stopped"] == 1
    assert limits_line(state) == (
        "at most 50,000 parameters: 1 larger proposal not trained; at least 50 examples/s: 1 slower trial ended"
    )
    assert run_facts(state, state.last, "")["constraints"] == {
        "parameters": 5e4,
        "examples_per_second": 50.0,
        "proposals_too_large": 1,
        "trials_too_slow": 1,
    }


def test_watch_shows_limits_and_the_size_of_the_best():
    state = reduce_events(until(journal(sized_story()), "finalists"))
    console = Console(file=StringIO(), width=150)
    console.print(make_view(state, state.last, Hints("resume"), console))
    text = console.file.getvalue()
    assert "40,000 parameters" in text
    assert "1 larger proposal" in text


def test_the_final_table_says_why_a_model_was_chosen():
    results = build_results(reduce_events(journal(sized_story())))
    del results["final"]["vc"]  # whose baselines the story does not have
    console = Console(file=StringIO(), width=150)
    console.print(final_table(results, {}))
    assert f"violin: {REASON}." in console.file.getvalue()


def test_the_finalist_that_leads_follows_the_rule_of_the_space():
    def events(rule: str):
        for kind, fields in sized_story():
            if kind == "search":
                fields = {**fields, "space": {**fields["space"], "final": {"choose": rule}}}
            if kind == "finalists":
                first, second = fields["configurations"]
                fields = {**fields, "configurations": [{**first, "parameters": 80_000}, {**second, "infeasible": ""}]}
            if kind == "final_end":
                fields = {**fields, "weights": f"finalists/{fields['id']}"}
            if kind == "final_epoch":  # c0 a little better than c1, seeds scatter by more
                shift = {"c0-s1": 0.0, "c0-s2": 0.1, "c1-s1": 0.02, "c1-s2": 0.1}[fields["id"]]
                members = [{**m, "val_loss": 0.4 + shift, "ratio": 0.4 + shift} for m in fields["members"]]
                fields = {**fields, "members": members}
            yield kind, fields

    chosen = {}
    for rule in ("best", "smallest_within_sd"):
        choice, _ = reduce_events(journal(events(rule))).chosen("vn")
        assert choice is not None
        chosen[rule] = choice.finalist.id
    assert chosen == {"best": "c0", "smallest_within_sd": "c1"}
