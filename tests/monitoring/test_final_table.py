"""The table of final models and the lines around it, with which a run ends on the screen."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sepsearch.monitoring.final_table import final_table
from sepsearch.monitoring.messages import tell_end

SCORE = {
    "ratio_mean": 0.46,
    "ratio_sd": 0.01,
    "test_ratio": None,
    "si_sdr_gain_db": 3.2,
    "mixture_similarity_db": 6.0,
    "discontinuities": 0,
    "audio": {"oracle_gain": {"si_sdr_db": 12.3}},
}
LOSSES = {"identity": {"vn": 2.0, "db": 2.0}, "gain": {"vn": 1.3, "db": 1.0}}


def results(**violin) -> dict:
    final = {"vn": SCORE | violin, "db": SCORE | {"si_sdr_gain_db": 11.4}}
    return {
        "name": "x",
        "final": final,
        "reference_final": {"vn": {"ratio_mean": 0.777}},
        "baselines": LOSSES,
        "champions": {},
        "dataset": {"source": "nowhere"},
    }


def shown(of: dict, caveats: dict | None = None, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(final_table(of, caveats or {}))
    return console.file.getvalue()


def test_a_row_has_gains_and_ratios_beside_those_it_must_beat_and_the_best_gain_is_first():
    bass, violin = (line.split() for line in shown(results()).splitlines() if "±" in line and "." in line)
    assert bass[:3] == ["double", "bass", "+11.4"]
    assert violin == ["violin", "+3.2", "12.3", "0.460", "±", "0.010", "–", "0.650", "0.777"]


def test_the_table_marks_few_titles_and_jumps():
    text = shown(results(discontinuities=2), {"vn": "too few titles"})
    assert "violin*" in text
    assert "0.460 ± 0.010↯" in text
    assert "* violin: too few titles" in text
    assert "↯: a loss jumped" in text


def test_a_terminal_of_80_columns_holds_every_row_in_one_line():
    widest = results(si_sdr_gain_db=-10.5, ratio_mean=1.234, ratio_sd=0.123, discontinuities=1, test_ratio=1.234)
    assert max(map(len, shown(widest).splitlines())) <= 80
    rows = [line for line in shown(widest).splitlines() if line.startswith((" violin", " double bass", "violin"))]
    assert [line.split()[-1] for line in rows] == ["–", "0.777"]


def test_the_median_gain_stands_beside_that_with_the_players_named_and_the_oracles():
    text = shown(results())
    assert "Median gain on test titles: 7.3 dB, oracle mask 12.3 dB." in text
    named = results(named_si_sdr_gain_db=5.0)
    named["final"]["db"]["named_si_sdr_gain_db"] = 13.0
    assert "7.3 dB, with --players 9.0 dB, oracle mask 12.3 dB." in shown(named)


@pytest.fixture
def ending(tmp_path: Path) -> list[str]:
    console = Console(file=StringIO(), width=80)
    (tmp_path / "report.html").touch()
    facts = {"name": "sepsearch-vn", "version": "1", "before": None, "now": "1", "why": "better"}
    tell_end(results() | {"champions": {"vn": facts, "db": facts}}, tmp_path, {}, "http://127.0.0.1:1/#/x", console)
    return console.file.getvalue().splitlines()


def test_a_run_ends_with_the_verdict_and_the_commands_to_type_next(ending):
    verdict = ending.index("Double bass (+11.4 dB) and violin (+3.2 dB) work.")
    assert [line.split(":")[0] for line in ending[verdict + 1 :]] == [
        "listen and choose, in MLflow",
        "curves, sounds, why these models won",
        "separate",
        "results",
    ]


def test_champions_are_named_before_the_verdict(ending):
    line = ending.index("champions, where there was none: version 1 of violin, double bass")
    assert line < ending.index("Double bass (+11.4 dB) and violin (+3.2 dB) work.")
