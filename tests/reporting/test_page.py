"""The report page: whole in any state of a run, text where the journal has text, and nothing from elsewhere."""

import base64
import dataclasses
import itertools
import json
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from event_fixtures import journal, story, until, write_run
from report_story import SPACE, whole_story
from sample_files import Half, waveforms
from sample_files import write as write_sample

from sepsearch.audio.spectrogram import PRESETS, FrontEnd, band_matrix
from sepsearch.evaluation.audio_samples import CandidateEstimate, read_sample
from sepsearch.report import main
from sepsearch.reporting.hover import Trace
from sepsearch.reporting.importance import importances
from sepsearch.reporting.page import render, write_report
from sepsearch.reporting.plots import Curve, curve_figure, rung_figure
from sepsearch.reporting.run_data import gather_facts
from sepsearch.reporting.rung_audit import audit_rungs
from sepsearch.reporting.style import INK, PALE, SERIES, decibels, hertz_ticks, new_figure, style, svg
from sepsearch.reporting.tables import audio_table, curse_table, ensemble_table, final_table
from sepsearch.reporting.tables import test_gain as gain_of_test_titles
from sepsearch.reporting.trial_tables import failure_table, rung_table, trial_table
from sepsearch.utils.errors import UserError

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'$x_1$"


class Page(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(markup)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def attributes(self, name):
        return [value for _, attributes in self.elements for key, value in attributes.items() if key == name]


def build(folder, events):
    return Page(write_report(write_run(folder, events)).read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run with a sample."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "duets", journal(whole_story()))
    write_sample(folder / "samples" / "vn")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def facts(run):
    return gather_facts(run)


@pytest.fixture(scope="module")
def page(run):
    return Page((run / "report.html").read_text())


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    return build(tmp_path_factory.mktemp("runs") / "duets", journal(whole_story(EVIL)))


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


SECTIONS = {"result", "samples", "curves", "finalists", "trials", "size", "mattered", "failed", "data", "again"}


@pytest.mark.parametrize(
    "last", ["search", "trial", "epoch", "trial_end", "retry", "finalists", "final", "final_epoch"]
)
def test_a_run_in_any_state_has_a_whole_page(tmp_path, last):
    page = build(tmp_path / "duets", until(journal(whole_story()), last))
    assert {attributes.get("id") for attributes in page.all("section")} >= SECTIONS
    assert "not finished" in page.text
    assert "python -m sepsearch.run --resume duets" in page.text


def test_a_journal_without_events_has_a_page_that_says_so(tmp_path):
    page = build(tmp_path / "duets", [])
    assert "not begun" in page.text
    assert {attributes.get("id") for attributes in page.all("section")} >= SECTIONS


def test_a_page_that_is_written_before_the_end_of_a_scored_run_says_finished(tmp_path):
    page = build(tmp_path / "duets", until(journal(whole_story()), "scores"))
    assert "Models are chosen and scored." in page.text
    assert "--resume" not in page.text


def test_a_journal_of_an_older_version_has_a_page_that_names_what_is_missing(tmp_path):
    page = build(tmp_path / "duets", journal(story()))
    assert "Rungs and parameters are not shown: the journal of duets" in page.text
    assert "0.250 ± 0.010" in page.text


def test_whatever_comes_from_the_journal_is_text_and_never_markup(evil):
    assert len(evil.all("script")) == 1
    assert not evil.all("img")
    assert not [name for _, attributes in evil.elements for name in attributes if name.startswith("on")]
    assert evil.text.count("<script>alert(1)</script>") >= 8


def test_a_page_loads_nothing_from_elsewhere(page):
    loaded = [*page.attributes("src"), *page.attributes("href"), *page.attributes("xlink:href")]
    assert loaded
    assert all(address.startswith(("#", "data:")) for address in loaded)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "url(" not in re.sub(r"url\(#", "", page.text)


def test_no_two_elements_share_an_id_and_every_reference_has_its_element(run, page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    used = [address[1:] for name in ("href", "xlink:href") for address in page.attributes(name) if address[0] == "#"]
    used += re.findall(r"url\(#([^)]+)\)", (run / "report.html").read_text())
    assert set(used) <= set(ids)


def test_a_page_can_be_read_without_eyes(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.all("svg"))
    names = set(page.attributes("id"))
    assert all(player["aria-labelledby"] in names for player in page.all("audio"))


def test_the_same_journal_gives_the_same_page(run, tmp_path):
    before = (run / "report.html").read_bytes()
    write_report(run)
    assert (run / "report.html").read_bytes() == before


def test_the_final_table_has_every_ratio_beside_those_it_must_beat(facts):
    table = final_table(facts)
    assert texts(table) == [
        [
            "violin",
            "−2.5",
            "0.400 ± 0.010",
            "0.275 to 0.525",
            "0.500",
            "0.500",
            "1.000",
            "1.250",
            "0.750",
            "0.062",
            "0.500 ± 0.010 1↯",
            "0.437",
        ],
        [
            "cello*†",
            "−2.5",
            "0.300 ± –",
            "0.175 to 0.425",
            "0.400",
            "0.500",
            "1.000",
            "–",
            "–",
            "–",
            "0.600 ± 0.010",
            "0.434",
        ],
    ]
    assert [cell.text for cell in table.foot][:5] == ["mean", "−2.5", "0.350", "", "0.450"]


def test_where_titles_were_left_out_in_turn_there_is_no_constant_gain_of_the_test_titles(tmp_path):
    events = journal(whole_story())
    (scores,) = (event for event in events if event["event"] == "scores")
    scores["final"]["vc"]["protocol"] = "leave one title out"
    facts = gather_facts(write_run(tmp_path / "duets", events))
    assert gain_of_test_titles(facts, "vn") == 0.5
    assert math.isnan(gain_of_test_titles(facts, "vc"))


@pytest.fixture
def named(tmp_path):
    """The page of the same run, whose violin was scored with the players named, and its facts."""
    events = journal(whole_story())
    (scores,) = (event for event in events if event["event"] == "scores")
    scores["final"]["vn"] |= {"named_test_ratio": 0.321, "named_si_sdr_gain_db": 4.0}
    scores["final"]["vc"] |= {"named_test_ratio": None, "named_si_sdr_gain_db": None}
    page = build(tmp_path / "duets", events)
    return page, gather_facts(tmp_path / "duets")


def test_scores_with_the_players_named_are_columns_of_their_own(named, facts):
    page, named = named
    for table, column, text in ((final_table, 6, "0.321"), (audio_table, 13, "+4.0")):
        plain, found = table(facts), table(named)
        assert [heading for n, heading in enumerate(found.headings) if n != column] == list(plain.headings)
        assert [row[:column] + row[column + 1 :] for row in texts(found)] == texts(plain)
        assert [row[column] for row in texts(found)] == [text, "–"]
    assert final_table(named).headings[6].text == "test ratio, players named"
    assert "Players named: the same test titles" in page.text


def test_a_page_of_a_journal_without_such_scores_does_not_speak_of_them(page):
    assert "layers named" not in page.text


def test_marks_of_the_final_table_are_explained(page):
    assert "* cello: one title only plain" in page.text
    assert "† cello: its test scores follow another protocol: leave one title out plain." in page.text
    assert "step up by more than 6 times the spread" in page.text


def test_decibels_are_shown_with_their_signs_and_a_dash_for_none(facts):
    assert texts(audio_table(facts))[0] == [
        "violin",
        "2",
        "5",
        "0.0",
        "−2.5",
        "−2.5",
        "12.0",
        "+12.0",
        "–",
        "–",
        "–",
        "–",
        "–",
    ]
    assert texts(ensemble_table(facts))[0][:5] == ["violin", "3", "1", "2", "0.0"]


def test_finalists_are_compared_with_their_ratios_in_the_search(facts):
    rows = texts(curse_table(facts))
    assert [row[0] for row in rows] == ["c0 · t0002", "c1 · t0000 · reference"]
    for row, one in zip(rows, facts.results["finalists"], strict=True):
        assert row[1] == f"{one['search_ratio']:.3f}"
        assert row[4] == f"{one['curse']:+.3f}".replace("-", "−")


def test_a_stopped_trial_says_what_it_would_have_needed(facts):
    row = next(row for row in texts(trial_table(facts)) if row[0] == "t0003")
    assert row[1] == "stopped"
    assert row[2] == "stopped at rung 1: 0.850 was number 3 of 4 at epoch 1; the best 2 went on, up to 0.800"


def test_a_parameter_whose_condition_does_not_hold_is_a_dash(facts):
    table = trial_table(facts)
    column = [heading.text for heading in table.headings].index("detector_width")
    assert {row[column] for row in texts(table)} == {"–"}


def test_rungs_are_counted(facts):
    assert texts(rung_table(facts)) == [["epoch 1", "4", "1", "0.800"], ["epoch 2", "3", "0", "0.600"]]


def test_what_failed_is_told_with_its_reason(facts):
    assert texts(failure_table(facts)) == [
        ["t0004", "trial failed", "0", "NaN plain"],
        ["t0004", "worker died, tried again", "0", "worker died plain"],
        ["f0", "model without a title failed", "0", "dead plain"],
    ]


def test_a_search_looked_back_at_stops_the_trials_that_it_stopped(facts):
    assert [(one.trial, one.rung) for one in facts.audit.decisions if one.stops] == [("t0003", 1)]
    assert [trial.state.name for trial in facts.audit.study.trials] == ["COMPLETE"] * 3 + ["PRUNED", "FAIL"]


def test_a_space_that_does_not_fit_is_one_line():
    with pytest.raises(UserError, match="settings, space and trials do not fit together"):
        audit_rungs({"name": "duets", "space": SPACE, "settings": {}}, [])


def test_a_sample_has_three_players_with_the_bytes_of_its_files(run, page):
    players = page.all("audio")
    assert len(players) == 3
    for player, voice in zip(players, ("mixture", "target", "estimate"), strict=True):
        kind, data = player["src"].split(",", 1)
        assert kind == "data:audio/mpeg;base64"
        assert base64.b64decode(data) == (run / "samples" / "vn" / f"{voice}.mp3").read_bytes()
    assert "mixture 0.5 dB, estimate 4.2 dB (gain +3.8 dB), oracle – dB" in page.text


def test_the_other_finalists_estimates_of_a_clip_are_read_with_it(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    _, _, estimate = waveforms()
    other = CandidateEstimate("c1-s2", Half(), estimate, 2.0)
    write_sample(folder / "samples" / "vn", chosen="c0-s1", candidates=[other])
    sample = gather_facts(folder).samples["vn"]
    assert list(sample.audio) == ["mixture", "target", "estimate", "c1-s2"]
    assert sample.audio["c1-s2"].name == "estimate-c1-s2.mp3"
    assert "c1-s2" in sample.spectrograms
    page = Page(write_report(folder).read_text())
    assert "chosen: c0-s1, gain +3.8 dB" in page.text
    assert "gain +1.5 dB" in page.text


def test_every_candidate_of_a_sample_has_a_column_with_its_sound_and_its_picture(facts):
    sample = facts.samples["vn"]
    audio = {**sample.audio, "c1-s2": sample.audio["target"]}
    spectrograms = {**sample.spectrograms, "c1-s2": sample.spectrograms["target"]}
    more = dataclasses.replace(sample, audio=audio, spectrograms=spectrograms)
    page = Page(render(dataclasses.replace(facts, samples={"vn": more})))
    names = [player["aria-labelledby"] for player in page.all("audio")]
    assert names == [f"voice-vn-{name}" for name in ("mixture", "target", "estimate", "c1-s2")]
    assert "Spectrogram c1-s2, violin." in page.attributes("aria-label")


def test_the_rule_by_which_a_clip_was_chosen_is_that_of_the_version_that_chose_it(facts, page):
    assert "sounds for at least 75 % of the time" in page.text
    assert "; it sounds for 88 % of the time" in page.text
    sample = facts.samples["vn"]
    older = dataclasses.replace(sample, facts={**sample.facts, "sounding_share": None})
    text = Page(render(dataclasses.replace(facts, samples={"vn": older}))).text
    assert "Of an instrument’s test clips it is the one with the median SI-SDR gain" in text
    assert "of the time" not in text


def test_a_damaged_sample_is_named_and_the_rest_of_the_page_is_there(tmp_path):
    folder = write_run(tmp_path / "duets", journal(whole_story()))
    write_sample(folder / "samples" / "vn")
    (folder / "samples" / "vn" / "target.mp3").write_bytes(b"ID3")
    page = Page(write_report(folder).read_text())
    assert "The sample of vn is not shown:" in page.text
    assert "target.mp3: damaged" in page.text
    assert "0.400 ± 0.010" in page.text
    assert not page.all("audio")


@pytest.mark.parametrize("kind", ["search", "scores"])
def test_a_journal_made_by_hand_is_one_line_and_the_older_page_stays(tmp_path, kind):
    events = journal(whole_story())
    if kind == "search":
        events[0]["dataset"] = {**events[0]["dataset"], "split": {"train": 5}}
    else:
        next(e for e in events if e["event"] == "scores")["final"]["vn"]["audio"] = 7
    folder = write_run(tmp_path / "duets", events)
    (folder / "report.html").write_text("older")
    with pytest.raises(UserError, match="restore the file") as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)
    assert (folder / "report.html").read_text() == "older"
    assert {path.name for path in folder.iterdir()} == {"journal.jsonl", "report.html"}


def test_the_command_line_writes_the_page_and_names_it(tmp_path, capsys):
    folder = write_run(tmp_path / "duets", until(journal(whole_story()), "search"))
    main(["duets", "--runs", str(tmp_path)])
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").stat().st_size > 1000
    with pytest.raises(UserError, match="no such run"):
        main(["nobody", "--runs", str(tmp_path)])


def test_a_page_that_no_browser_can_open_is_named(tmp_path, capsys, monkeypatch):
    folder = write_run(tmp_path / "duets", until(journal(whole_story()), "search"))
    asked = []
    monkeypatch.setattr("webbrowser.open", lambda address: asked.append(address))
    main(["duets", "--runs", str(tmp_path), "--open"])
    assert asked == [(folder / "report.html").as_uri()]
    assert f"no browser was found: open {asked[0]}" in capsys.readouterr().out


def study(values, learning_rates):
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import create_trial

    made = optuna.create_study(direction="minimize")
    rate = FloatDistribution(1e-4, 1e-2, log=True)
    for number, (value, learning_rate) in enumerate(zip(values, learning_rates, strict=True)):
        made.add_trial(
            create_trial(
                value=value,
                params={"learning_rate": learning_rate, "filters": (8, 16)[number % 2]},
                distributions={"learning_rate": rate, "filters": CategoricalDistribution((8, 16))},
            )
        )
    return made


def test_a_parameter_that_decides_is_above_chance_and_one_that_does_not_is_below():
    rates = np.random.default_rng(0).permutation(np.geomspace(1e-4, 1e-2, 60)).tolist()
    found = importances(study([abs(math.log10(rate) + 3) for rate in rates], rates))
    assert [one.name for one in found] == ["learning_rate", "filters"]
    assert found[0].share > found[0].chance
    assert found[1].share <= found[1].chance


def test_too_few_trials_and_equal_ones_have_no_importance():
    assert importances(study([0.1, 0.2, 0.3], [1e-3] * 3)) == []
    assert importances(study([0.5] * 12, np.geomspace(1e-4, 1e-2, 12).tolist())) == []


def test_a_figure_takes_its_colours_from_the_page_and_its_text_stays_text():
    with style():
        figure = new_figure(2, 1)
        figure.text(0, 0, "$x_1$ <b>", color=INK)
    drawing = svg(figure, "one", 'says "this" & <that>')
    assert "var(--ink)" in drawing
    assert INK not in drawing
    assert "$x_1$ &lt;b&gt;" in drawing
    assert 'aria-label="says &#34;this&#34; &amp; &lt;that&gt;"' in drawing
    assert "<style" not in drawing


def test_lines_that_end_together_have_one_label_with_the_finalists_name_first():
    grey = [(Curve([1, 2], [0.9, 0.5], PALE, name=f"t{number}"), "completed") for number in range(4)]
    apart = (Curve([1], [0.9], PALE, name="stopped"), "stopped")
    bold = (Curve([1, 2], [0.8, 0.5], SERIES[0], bold=True, name="best"), "completed")
    axes = rung_figure([*grey, apart, bold], [1], 2).axes[0]
    assert [text.get_text() for text in axes.texts] == ["best, t0, t1 +2", "stopped"]


def test_hover_values_lie_where_the_figure_draws_them():
    curve = Curve([1, 2, 3], [0.5, math.nan, 0.25], SERIES[0], name="c0-s1")
    figure = curve_figure("violin", [curve], 1.0)
    drawing = svg(figure, "one", "losses", [Trace("c0-s1", curve.epochs, curve.values)])
    found = json.loads(Page(drawing).all("svg")[0]["data-values"])
    assert found["traces"] == [["c0-s1", [1, 2, 3], [0.5, None, 0.25], ""]]
    assert found["log"]
    a, b, c, d = found["map"]
    x, y = map(float, re.search(r'<path d="M ([\d.]+) ([\d.]+)\s*"?[^>]*stroke: var\(--s0\)', drawing).groups())
    assert (a * 1 + b, c * math.log10(0.5) + d) == pytest.approx((x, y), abs=0.1)


def test_hover_values_of_a_linear_axis_lie_where_the_figure_draws_them():
    with style():
        figure = new_figure(4, 3)
        figure.subplots().plot([1, 2], [0.5, 0.25], color=SERIES[0])
    drawing = svg(figure, "one", "losses", [Trace("c0-s1", [1, 2], [0.5, 0.25])])
    found = json.loads(Page(drawing).all("svg")[0]["data-values"])
    assert not found["log"]
    a, b, c, d = found["map"]
    x, y = map(float, re.search(r'<path d="M ([\d.]+) ([\d.]+)\s*"?[^>]*stroke: var\(--s0\)', drawing).groups())
    assert (a * 1 + b, c * 0.5 + d) == pytest.approx((x, y), abs=0.1)


@pytest.mark.parametrize("front_end", PRESETS.values(), ids=PRESETS)
def test_a_frequency_is_marked_at_the_band_that_it_is_loudest_in(front_end):
    places, labels = hertz_ticks(front_end)
    assert len(places) >= 4
    assert places == sorted(places, reverse=True)
    bands = band_matrix(front_end).numpy()
    for place, label in zip(places, labels, strict=True):
        row = bands[round(int(label) / (48_000 / front_end.window))]
        assert abs(row.argmax() - place) <= 1.5


def test_decibels_are_relative_to_the_loudest_of_the_mixture(tmp_path):
    sample = read_sample(write_sample(tmp_path / "vn"))
    assert isinstance(sample.front_end, FrontEnd)
    assert decibels(sample, "mixture").max() == 0
    assert decibels(sample, "prediction").max() < -6
    assert decibels(sample, "target").min() >= -70
