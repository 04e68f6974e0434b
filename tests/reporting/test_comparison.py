"""Runs side by side: what is compared with what, the page, and names of runs."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from compared_runs import finished_run, write_finished
from event_fixtures import journal, write_run

from sepsearch.reporting.comparison.facts import EQUAL, LOWER, gather_comparison
from sepsearch.reporting.comparison.page import render
from sepsearch.reporting.comparison.text import data_sentences, findings, instrument_sentences, untested_sentences
from sepsearch.utils.errors import UserError

BETTER = {"vn": (0.40, 0.41, 0.42), "vc": (0.61, 0.63, 0.60)}  # on the violin alone


@pytest.fixture
def compare(tmp_path):
    """Writes runs, a name and what differs each, and compares them in that order."""

    def compare_runs(**runs):
        for name, changes in runs.items():
            write_finished(tmp_path / "runs", name, **changes)
        copies = tmp_path / "copies"
        copies.mkdir()
        return gather_comparison(list(runs), tmp_path / "runs", copies)

    return compare_runs


def test_a_run_with_a_clearly_smaller_loss_on_one_instrument_is_found(compare):
    comparison = compare(alpha={}, beta={"ratios": BETTER})
    found = {one.instrument: one for one in comparison.tests}
    assert (found["vn"].conclusion, found["vc"].conclusion) == (LOWER, EQUAL)
    assert found["vn"].test.ratio == pytest.approx(0.41 / 0.51, abs=0.01)
    assert found["vn"].seeds == (3, 3)
    assert findings(comparison) == [
        "beta against alpha: the loss is lower on violin; not shown to differ on 1 of 2 instruments."
    ]


def test_p_values_are_corrected_over_all_runs_and_instruments(compare):
    comparison = compare(alpha={}, beta={"ratios": BETTER}, gamma={"ratios": BETTER})
    smallest = min(comparison.tests, key=lambda one: one.test.p)
    assert smallest.corrected == pytest.approx(4 * smallest.test.p)


def test_runs_of_other_data_have_no_significance_and_say_why(compare):
    comparison = compare(alpha={}, beta={"fingerprint": "f2"})
    assert all(one.test is None and one.conclusion == "not comparable" for one in comparison.tests)
    (sentence,) = data_sentences(comparison)
    assert sentence.startswith("beta is not comparable to alpha. Recordings: 4 pieces, fingerprint f1")
    assert findings(comparison) == []


def test_runs_of_other_instruments_are_told_and_tested_on_those_that_both_have(compare):
    comparison = compare(alpha={}, beta={"ratios": {"vn": BETTER["vn"]}})
    (sentence,) = instrument_sentences(comparison)
    assert sentence.startswith("beta is of violin, alpha of violin, cello: the ratios of their trials are means")
    assert [(one.instrument, one.conclusion) for one in comparison.tests] == [("vn", LOWER)]
    assert sentence in Page(render(comparison)).text


def test_two_seeds_are_not_tested_and_say_so(compare):
    comparison = compare(alpha={}, beta={"ratios": {"vn": (0.4, 0.41), "vc": (0.6, 0.61)}})
    (sentence,) = findings(comparison)
    assert sentence == (
        "beta against alpha: no difference is tested. Too few seeds: 3 and 2, expected 3 or more of each."
    )
    assert untested_sentences(comparison) == []


def test_where_one_instrument_is_tested_the_others_are_named_with_the_reason(compare, monkeypatch):
    comparison = compare(alpha={}, beta={"ratios": BETTER})
    tests = [
        one if one.instrument == "vn" else replace(one, test=None, problem="too few seeds") for one in comparison.tests
    ]
    monkeypatch.setitem(vars(comparison), "tests", tests)
    assert findings(comparison) == ["beta against alpha: the loss is lower on violin."]
    assert untested_sentences(comparison) == ["beta, cello: not tested. Too few seeds."]


def test_progress_is_the_smallest_ratio_so_far_by_epochs_and_time(compare):
    (one,) = compare(alpha={"curves": ((0.9, 0.95), (0.7, 0.6), (0.85,))}).runs
    assert [(point.epochs, point.ratio, point.trial) for point in one.progress] == [
        (1, 0.9, "t0000"),
        (3, 0.7, "t0001"),
        (4, 0.6, "t0001"),
        (5, 0.6, "t0001"),
    ]
    seconds = [point.seconds for point in one.progress]
    assert seconds == sorted(seconds)


def test_the_budget_of_a_run_counts_epochs_of_trials_alone(compare):
    (one,) = compare(alpha={}).runs
    assert (one.epochs, len(one.trials), one.workers) == (5, 3, 1)


class Page(HTMLParser):
    """Text, sections and addresses of a page."""

    def __init__(self, markup):
        super().__init__()
        self.text, self.sections, self.addresses = "", set(), []
        self.feed(markup)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "section" and "id" in found:
            self.sections.add(found["id"])
        self.addresses += [found[key] for key in ("href", "src") if key in found]

    def handle_data(self, data):
        self.text += data


def test_the_page_has_all_sections_and_asks_for_nothing_from_elsewhere(compare):
    page = Page(render(compare(alpha={}, beta={"ratios": BETTER})))
    assert page.sections == {"runs", "progress", "finals", "significance", "differences", "again"}
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "Welch’s two-sided t test" in page.text
    assert "corrected for 2 comparisons by Holm’s method" in page.text


def test_runs_without_epochs_and_finalists_have_a_page(tmp_path, compare):
    write_run(tmp_path / "runs" / "empty", journal(finished_run("empty"))[:1])
    write_finished(tmp_path / "runs", "whole")
    (tmp_path / "copies").mkdir()
    comparison = gather_comparison(["empty", "whole"], tmp_path / "runs", tmp_path / "copies")
    text = Page(render(comparison)).text
    assert "not finished" in text
    assert comparison.tests == []


def test_text_of_a_journal_is_escaped_on_the_page(compare):
    evil = "<script>alert(1)</script>"
    markup = render(compare(alpha={}, beta={"fingerprint": evil, "validation": (evil,)}))
    assert evil not in markup
    assert "&lt;script&gt;alert(1)" in markup


def test_two_runs_of_one_name_are_told_apart_by_how_they_were_given(tmp_path):
    write_finished(tmp_path / "runs", "alpha")
    write_finished(tmp_path / "other", "alpha", run="another")
    copies = tmp_path / "copies"
    copies.mkdir()
    path = str(tmp_path / "other" / "alpha")
    assert gather_comparison(["alpha", path], tmp_path / "runs", copies).labels == ["alpha", path]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["alpha", "missing"], "RUN missing: no such run in .*, expected one of: alpha"),
        (["alpha", "./nowhere/beta"], r"RUN ./nowhere/beta: no journal.jsonl there, expected a run's folder"),
        (["alpha", "s3://bucket"], "RUN s3://bucket: expected the folder of a run, such as s3://bucket/runs/urmp"),
        (["alpha", "alpha"], "RUN alpha: the same run as alpha, expected each run once"),
        (["alpha"] * 13, "RUN: found 13 runs, expected at most 12"),
    ],
)
def test_a_run_that_cannot_be_compared_is_one_line(tmp_path, given, problem):
    write_finished(tmp_path / "runs", "alpha")
    (tmp_path / "copies").mkdir()
    with pytest.raises(UserError, match=problem):
        gather_comparison(given, tmp_path / "runs", tmp_path / "copies")


def test_a_run_that_has_not_begun_is_refused(tmp_path):
    write_run(tmp_path / "runs" / "empty", [])
    (tmp_path / "copies").mkdir()
    with pytest.raises(UserError, match=re.escape("RUN empty: journal.jsonl is empty, expected a run that has begun")):
        gather_comparison(["empty"], tmp_path / "runs", tmp_path / "copies")


def test_a_journal_that_was_made_by_hand_is_one_line(tmp_path):
    events = journal(finished_run("alpha"))
    events[0]["dataset"] = {"fingerprint": "f1"}
    write_run(tmp_path / "runs" / "alpha", events)
    (tmp_path / "copies").mkdir()
    with pytest.raises(UserError, match="journal"):
        gather_comparison(["alpha"], tmp_path / "runs", tmp_path / "copies")
