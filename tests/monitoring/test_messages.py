"""Commands that a run prints at its end: they can be typed as they are."""

import shlex

from sample_files import write

from sepsearch.monitoring.messages import separate_command

GOOD = {
    "si_sdr_gain_db": 2.0,
    "mixture_similarity_db": 6.0,
    "ratio_mean": 0.3,
    "ratio_sd": 0.01,
    "ratio_interval": None,
}
RESULTS = {
    "final": {"vn": GOOD, "db": GOOD | {"si_sdr_gain_db": 7.0}},
    "baselines": {name: {"vn": loss, "db": loss} for name, loss in (("identity", 2.0), ("gain", 1.0))},
    "champions": {"vn": {"now": 3, "version": 3}, "db": {"now": 3, "version": 3}},
    "dataset": {"source": "nowhere"},
}


def test_the_command_to_separate_names_the_best_instrument_and_a_mixture_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = {"instrument": "db", "piece": "p", "title": "t", "clip": 0, "players": ["db"], "begin_seconds": 0.0}
    levels = dict.fromkeys(("mixture_si_sdr_db", "si_sdr_db", "oracle_si_sdr_db"), 0.0)
    write(tmp_path / "my run" / "samples" / "db", facts=facts | levels)
    words = shlex.split(separate_command(RESULTS, tmp_path / "my run"))
    assert words[1:] == [
        "-m",
        "sepsearch.separate",
        str(tmp_path / "my run/samples/db/mixture.mp3"),
        "--instrument",
        "double_bass",
    ]


def test_the_command_to_separate_names_the_runs_model_where_it_is_no_champion(tmp_path):
    results = RESULTS | {"champions": {"db": {"now": 2, "version": 3}}}
    assert separate_command(results, tmp_path / "x").endswith(f" --model {tmp_path}/x")


def test_where_no_mixture_is_there_the_command_to_separate_says_so(tmp_path):
    assert " RECORDING " in separate_command(RESULTS, tmp_path)
