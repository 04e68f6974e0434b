"""Recorded searches replayed: what can be replayed together, what ASHA has missed, the table and the picture."""

import io
import json
import math
import os
from pathlib import Path

import pytest
from documented_keys import documented_keys

from sepsearch import replay
from sepsearch.search.journal import Journal
from sepsearch.search.protocol import JobOutcome
from sepsearch.search.sampling.sampler import Sampler
from sepsearch.search.scheduler import SearchPlan
from sepsearch.search.stopping.asha import Rungs
from sepsearch.simulation import replay as module
from sepsearch.simulation.comparison import audit_line, describe, interval_facts, make_table, proportion
from sepsearch.simulation.curve_table import Draw, Pool
from sepsearch.simulation.recorded_runs import Audit, Recorded, load_runs, make_pool
from sepsearch.simulation.simulator import Outcome, Strategy
from sepsearch.spaces.space import Space, parse_space
from sepsearch.utils.errors import UserError

EPOCHS = 4
PARAMETERS = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def ratios(number: int) -> list[float]:
    """Curves that keep their order, but for every sixth: the worst in the first epoch, the best in the last."""
    if number % 6 == 5:
        return [0.9 + number / 1000, 0.7, 0.5, 0.3 + number / 1000]
    return [0.6 + number / 100] * EPOCHS


def write_run(
    runs: Path,
    name: str,
    *,
    trials: int = 12,
    factor: int | None = None,
    spared_share: float = 0.0,
    seed: int = 0,
    fingerprint: str = "aa",
    parameters: dict | None = None,
) -> Path:
    """A run's folder with the journal of a search by a real plan; trial n trains the n-th curve of `ratios`."""
    search = {"trials": trials, "epochs": EPOCHS, "startup_trials": 4, "grace_epochs": 1, "sampler": "random"}
    content = {"parameters": parameters or PARAMETERS, "search": search | {"reduction_factor": factor or 4}}
    space = parse_space(content, "space")
    journal = Journal(runs / name / "journal.jsonl")
    facts: dict = {key: {} for key in ("versions", "baselines", "caveats")}
    begin = {"event": "search", "name": name, "run": name, "reference": "t0000", "seconds": 0.0, **facts}
    settings = {"seed": seed, "epochs": EPOCHS, "instruments": ["vn"]}
    dumped = space.model_dump(mode="json", exclude_none=True)
    journal.append({**begin, "space": dumped, "settings": settings, "dataset": {"fingerprint": fingerprint}})
    rungs = Rungs(1 if factor else EPOCHS, factor or 2, EPOCHS)
    plan = SearchPlan(
        Sampler(space, None, name, seed), rungs, journal, trials, EPOCHS, seed, exempt_fraction=spared_share
    )
    for number in range(trials):
        unit = plan.next()
        assert unit is not None
        for epoch, ratio in enumerate(ratios(number), 1):
            report = {"epoch": epoch, "ratio": ratio, "seconds": 1.0, "examples_per_second": 1.0, "members": []}
            if plan.result(unit[0], report):
                break
        plan.ended(unit[0], JobOutcome())
    journal.close()
    return runs / name


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """All searches in this process: starting others takes longer than these searches."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def load(tmp_path: Path, *names: str) -> Recorded:
    return load_runs(tmp_path, names)


def test_an_unknown_run_is_refused_with_the_names_of_those_there(tmp_path):
    write_run(tmp_path, "spring")
    with pytest.raises(UserError, match=r"RUN sprung: no such run in .*, expected one of: spring"):
        replay.main(["sprung", "--runs", str(tmp_path)])


@pytest.mark.parametrize("name", ["../spring", "a/b", ".", ""])
def test_a_run_is_a_name_and_no_path(name, tmp_path):
    with pytest.raises(UserError, match="expected letters, digits"):
        replay.main([name, "--runs", str(tmp_path)])


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"parameters": {"learning_rate": {"low": 1e-4, "high": 2e-2, "log": True}}}, "parameters: learning_rate"),
        ({"parameters": PARAMETERS | {"filters": [8, 16]}}, "parameters: filters"),
        ({"fingerprint": "bb"}, "recordings or front end: aa and bb"),
    ],
)
def test_runs_that_do_not_compare_are_refused_with_their_difference(changes, difference, tmp_path):
    write_run(tmp_path, "one")
    write_run(tmp_path, "two", **changes)
    with pytest.raises(UserError, match=f"runs one and two differ in {difference}"):
        load(tmp_path, "one", "two")


def test_runs_of_one_space_are_taken_together_and_their_different_seeds_are_said(tmp_path):
    write_run(tmp_path, "one", trials=5)
    write_run(tmp_path, "two", trials=5, seed=1)
    recorded = load(tmp_path, "one", "two", "one")
    assert make_pool(recorded, None, False).distinct == 9  # the reference is in both
    assert "seeds differ" in recorded.notes[0]


def test_trials_that_were_stopped_are_used_only_as_far_as_they_are_known(tmp_path):
    write_run(tmp_path, "asha", factor=4)
    recorded = load(tmp_path, "asha")
    full, partial, short = (
        make_pool(recorded, epochs, wanted) for epochs, wanted in ((None, False), (None, True), (1, False))
    )
    assert 2 <= len(full) < len(partial) == len(short) == 12
    assert (full.full, short.full) == (len(full), 12)
    assert any("stopped early" in line for line in describe(recorded, full, 2, 1))


def test_a_run_with_too_few_whole_curves_is_refused(tmp_path):
    write_run(tmp_path, "tiny", trials=1)
    with pytest.raises(UserError, match=r"tiny: 1 of 1 trials have a curve of 4 epochs, expected at least 2"):
        replay.main(["tiny", "--runs", str(tmp_path)])


@pytest.mark.parametrize(
    ("option", "message"), [(("--trials", "13"), "12 recorded trials"), (("--epochs", "5"), "the runs have 4")]
)
def test_more_than_was_recorded_is_refused(option, message, tmp_path):
    write_run(tmp_path, "run")
    with pytest.raises(UserError, match=message):
        replay.main(["run", "--runs", str(tmp_path), *option])


def test_the_audit_counts_spared_trials_that_would_have_won(tmp_path):
    # Trials 5 and 11 start worst and end best, 0.305 and 0.311; the best of the others ends with 0.60.
    write_run(tmp_path, "spared", factor=4, spared_share=1.0)
    audit = load(tmp_path, "spared").audit
    # The first three pass the rung unjudged, and so does none of the others: the reference is the best of all there.
    assert audit == Audit(stopped=0, spared=9, ended=9, winners=2, finalists=2)
    assert "2 of 9" in audit_line(audit, load(tmp_path, "spared").space)


def test_spared_trials_that_had_not_ended_are_not_counted(tmp_path):
    folder = write_run(tmp_path, "cut", factor=4, spared_share=1.0)
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:-1]))  # the last trial's end
    audit = load(tmp_path, "cut").audit
    assert (audit.spared, audit.ended) == (9, 8)


def test_without_spared_trials_the_setting_that_spares_some_is_named(tmp_path):
    write_run(tmp_path, "plain", factor=4)
    recorded = load(tmp_path, "plain")
    assert recorded.audit.stopped > 0
    assert "search: {spared_share: 0.1}" in audit_line(recorded.audit, recorded.space)


def test_the_score_interval_of_a_proportion_is_the_published_one():
    # Newcombe 1998, table I: 81 of 263 and 0 of 20, method 3.
    assert proportion(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert proportion(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert proportion(0, 0) == (0.0, 1.0)


def test_the_strategies_hold_every_sampler_other_rungs_and_every_tell_once(tmp_path):
    write_run(tmp_path, "run")
    strategies = module.make_strategies(load(tmp_path, "run").space, EPOCHS)
    assert len(set(strategies)) == len(strategies)
    assert {one.sampler for one in strategies} == {"random", "tpe", "gp"}
    assert {one.factor for one in strategies} == {None, 2, 3, 4}
    assert {one.tell for one in strategies} == {"pruned", "last", "extrapolated"}
    assert {one.grace for one in strategies} == {1, 2}
    assert all(one.factor is None or one.grace < EPOCHS for one in strategies)


def test_asha_is_seen_to_stop_the_winners_of_recorded_curves(tmp_path):
    write_run(tmp_path, "run")
    pool = make_pool(load(tmp_path, "run"), None, False)
    none, asha = Strategy("random"), Strategy("random", 1, 4)
    results = module.replay(module.Job(pool, 12, 1), [none, asha], seeds=4)
    assert [outcome.missed for outcome in results[none]] == [False] * 4
    assert sum(outcome.missed or False for outcome in results[asha]) >= 3
    cells = [list(column.cells) for column in make_table(results, pool).columns]
    assert cells[-1] == ["0/4", f"{sum(outcome.missed or False for outcome in results[asha])}/4"]


def test_a_table_and_a_picture_come_out_and_the_same_ones_again(quick, tmp_path, capsys):
    folder = write_run(tmp_path, "run")
    pages, pictures = [], []
    for _ in range(2):
        replay.main(["run", "--runs", str(tmp_path), "--seeds", "2", "--trials", "6"])
        pages.append(capsys.readouterr().out)
        pictures.append((folder / "replay.png").read_bytes())
    assert pages[0] == pages[1]
    assert pictures[0] == pictures[1]
    assert "12 of 12 trials can be used" in pages[0]
    assert all(word in pages[0] for word in ("random", "tpe", "gp", "extrapolated", "÷4 from 1", "winner"))
    from PIL import Image

    assert Image.open(io.BytesIO(pictures[0])).format == "PNG"


def test_several_processes_find_what_one_does(tmp_path):
    write_run(tmp_path, "run")
    pool = Pool(load(tmp_path, "run").space, load(tmp_path, "run").curves, EPOCHS)
    job, strategies = module.Job(pool, 6, 2), [Strategy("random", 1, 2), Strategy("random")]
    assert module.replay(job, strategies, 2, processes=2) == module.replay(job, strategies, 2)


def test_a_replayed_search_trains_the_reference_first(tmp_path):
    write_run(tmp_path, "run")
    recorded = load(tmp_path, "run")
    space: Space = recorded.space
    draw = Draw(make_pool(recorded, None, False))
    sampler = Sampler(space, None, "x", 0, pick=draw.pick)
    assert sampler.ask("t0000") == sampler.reference_params()


def test_json_has_the_numbers_of_all_strategies_and_nothing_else_is_printed(quick, tmp_path, capsys):
    folder = write_run(tmp_path, "run")
    replay.main(["run", "--runs", str(tmp_path), "--seeds", "2", "--trials", "6", "--json"])
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert output.err == ""
    assert (found["trials"]["recorded"], found["trials"]["per_search"], found["epochs"]) == (12, 6, EPOCHS)
    assert {one["sampler"] for one in found["strategies"]} == {"random", "tpe", "gp"}
    first = found["strategies"][0]
    assert (first["sampler"], first["reduction_factor"], first["first_rung"], first["tell"]) == (
        "random",
        None,
        None,
        None,
    )
    assert first["best"]["low"] <= first["best"]["mean"] <= first["best"]["high"]
    assert sum(first["ended"].values()) == 6
    assert found["picture"] == str(folder / "replay.png")
    known = documented_keys("replay")
    assert found.keys() | first.keys() | first["best"].keys() | found["audit"].keys() <= known


def test_a_strategy_that_finds_nothing_in_a_search_has_no_mean():
    found, nothing = Outcome(steps=[(4, 0.5)], epochs=4), Outcome(epochs=4)
    facts = interval_facts([found.best, nothing.best])
    assert facts["found_none"] == 1
    assert math.isnan(facts["mean"])


def test_a_quiet_replay_prints_its_results_without_the_description(quick, tmp_path, capsys):
    write_run(tmp_path, "run")
    replay.main(["run", "--runs", str(tmp_path), "--seeds", "2", "--trials", "6", "--quiet"])
    page = capsys.readouterr().out
    assert "can be used" not in page
    assert "winner" in page
