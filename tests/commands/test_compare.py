"""`sepsearch compare`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
from compared_runs import write_finished
from documented_keys import documented_keys

from sepsearch.compare import main
from sepsearch.runs.tables import CURVE_COLUMNS, SEED_COLUMNS, TRIAL_COLUMNS
from sepsearch.utils.errors import UserError


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_finished(tmp_path / "runs", "alpha")
    write_finished(tmp_path / "runs", "beta", ratios={"vn": (0.40, 0.41, 0.42), "vc": (0.61, 0.63, 0.60)})
    return tmp_path


def test_two_runs_are_printed_and_written_as_a_page(runs, capsys):
    main(["alpha", "beta"])
    text = capsys.readouterr().out
    assert "lower on violin" in text
    assert text.splitlines()[-1] == "compare.html"
    assert (runs / "compare.html").read_text().startswith("<!doctype html>")


def test_paths_name_runs_as_well(runs, capsys):
    main(["runs/alpha", str(runs / "runs" / "beta" / "journal.jsonl"), "--runs", "elsewhere", "-o", "page.html"])
    assert (runs / "page.html").exists()
    assert "beta against alpha" in capsys.readouterr().out


def test_json_is_alone_and_has_the_documented_keys(runs, capsys):
    main(["alpha", "beta", "--json", "--export", "tables"])
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert output.err == ""
    assert (found["page"], found["files"][0]) == ("compare.html", "tables/trials.csv")
    assert found["tests"][0]["conclusion"] == "lower loss"
    assert found["runs"][0]["final"]["vn"]["ratios"] == [0.5, 0.51, 0.52]
    keys = found.keys() | found["runs"][0].keys() | found["runs"][0]["final"]["vn"].keys() | found["tests"][0].keys()
    keys |= found["runs"][0]["progress"][0].keys() | found["runs"][0]["trials"].keys()
    assert keys <= documented_keys("compare")


def test_one_run_is_enough_for_its_tables_and_gets_no_page(runs, capsys):
    main(["alpha", "--export", "tables", "--format", "parquet"])
    written = [f"tables/{name}.parquet" for name in ("trials", "curves", "seeds")]
    assert capsys.readouterr().out.split() == written
    assert all((runs / name).exists() for name in written)
    assert not (runs / "compare.html").exists()


def test_one_run_alone_is_refused(runs):
    with pytest.raises(UserError, match="found one run, expected two or more"):
        main(["alpha"])
    assert not (runs / "compare.html").exists()


def test_columns_of_exported_tables_are_documented_with_their_meaning():
    text = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    columns = [*TRIAL_COLUMNS.items(), *CURVE_COLUMNS.items(), *SEED_COLUMNS.items()]
    assert [name for name, meaning in columns if f"| `{name}` | {meaning} |" not in text] == []
