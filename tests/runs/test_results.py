"""`results.json`, from events alone."""

import pytest
from event_fixtures import state_of

from sepsearch.runs.results import build_results

MEMBER = {"instrument": "vn", "seed": 0, "ratio": 0.5}
SCORE = {
    "params": {"filters": 8},
    "seeds": [1, 2],
    "identity_loss": 0.9,
    "val_loss": 0.4,
    "ratio": 0.44,
    "ratio_mean": 0.46,
    "ratio_sd": 0.01,
    "test_ratio": None,
    "si_sdr_gain_db": 3.2,
    "discontinuities": 1,
    "model_uri": "runs/x/models/vn",
}
EVENTS = [
    {
        "event": "search",
        "name": "x",
        "space": {},
        "reference": "t0000",
        "seconds": 3.0,
        "settings": {},
        "caveats": {},
        "dataset": {
            "fingerprint": "abc",
            "source": "here",
            "pieces": 2,
            "clips": 4,
            "rows": 9,
            "split": {"train": ["a"]},
        },
        "baselines": {"validation": {"identity": {"vn": 0.9}, "gain": {"vn": 0.45}}, "test": {"identity": {"vn": 1.0}}},
    },
    {"event": "trial", "id": "t0000", "params": {"filters": 16}},
    {"event": "epoch", "id": "t0000", "epoch": 1, "ratio": 0.8, "members": [{**MEMBER, "ratio": 0.8}]},
    {"event": "trial", "id": "t0001", "params": {"filters": 8}},
    {"event": "epoch", "id": "t0001", "epoch": 1, "ratio": 0.9, "members": [{**MEMBER, "ratio": 0.9}]},
    {"event": "trial_end", "id": "t0001", "state": "stopped", "reason": "stopped at rung 1", "epochs": 1},
    {"event": "epoch", "id": "t0000", "epoch": 2, "ratio": 0.5, "members": [MEMBER]},
    {"event": "trial_end", "id": "t0000", "state": "completed", "reason": "", "epochs": 2},
    {"event": "finalists", "configurations": [], "seconds": 7.0},
    {"event": "scores", "final": {"vn": SCORE}, "reference_final": {"vn": SCORE}, "seconds": 9.0},
    {
        "event": "registered",
        "models": {"vn": "models:/sepsearch-vn/4"},
        "champions": {"vn": {"before": "3", "now": "4"}},
    },
    {"event": "end", "state": "finished"},
]


def test_results_follow_from_the_events():
    results = build_results(state_of(EVENTS))
    assert [(t["id"], t["state"], t["epochs"], t["ratio"]) for t in results["trials"]] == [
        ("t0000", "completed", 2, 0.5),
        ("t0001", "stopped", 1, 0.9),
    ]
    assert results["trials"][0]["ratios"] == {"vn": 0.5}
    assert results["baselines"] == {"identity": {"vn": 0.9}, "gain": {"vn": 0.45}}
    assert results["seconds"] == {"prepare": 3.0, "search": 7.0, "retrain": 9.0}


def test_a_registered_model_is_named_by_its_address_and_the_reference_by_its_file():
    results = build_results(state_of(EVENTS))
    assert results["final"]["vn"]["model_uri"] == "models:/sepsearch-vn/4"
    assert results["champions"] == {"vn": {"before": "3", "now": "4"}}
    assert results["reference_final"]["vn"]["model_uri"] == "runs/x/models/vn"


def test_results_have_a_verdict_on_every_final_model():
    results = build_results(state_of(EVENTS))
    assert results["verdicts"] == {"vn": {"verdict": "works", "reason": ""}}
    assert build_results(state_of(EVENTS[:3]))["verdicts"] == {}


def test_a_journal_that_stops_in_the_middle_gives_what_is_known():
    results = build_results(state_of(EVENTS[:5]))
    assert [trial["state"] for trial in results["trials"]] == ["running", "running"]
    assert results["final"] == {}


def retrained(ratios: dict[int, tuple[float, float]], search: float = 0.5) -> list[dict]:
    """Events of a search and of one finalist: seed → its ratios after epochs 1 and 2; the search had two epochs."""
    c0 = {"id": "c0", "trial": "t0000", "params": {"filters": 16}, "reference": True}
    events = [*EVENTS[:2], {**EVENTS[2], "epoch": 2, "ratio": search}]
    events += [EVENTS[7], {"event": "finalists", "configurations": [c0], "seconds": 7.0}]
    for seed, by_epoch in ratios.items():
        id = f"c0-s{seed}"
        events.append({"event": "final", "id": id, "configuration": "c0", "seed": seed, "params": {"filters": 16}})
        for epoch, ratio in enumerate(by_epoch, 1):
            member = {"instrument": "vn", "val_loss": ratio, "ratio": ratio, "discontinuity": False}
            events.append({"event": "final_epoch", "id": id, "epoch": epoch, "ratio": ratio, "members": [member]})
        events.append({"event": "final_end", "id": id, "state": "completed", "reason": "", "epochs": 3, "weights": "x"})
    return events


def test_the_winners_curse_is_the_retrained_mean_at_the_same_epoch_less_the_searchs_value():
    (row,) = build_results(state_of(retrained({1: (0.8, 0.6, 0.4), 2: (0.9, 0.7, 0.5)}, search=0.5)))["finalists"]
    assert (row["search_ratio"], row["search_epochs"]) == (0.5, 2)
    assert row["retrained_ratio"] == pytest.approx(0.65)
    assert row["curse"] == pytest.approx(0.15)


def test_a_finalists_mean_spread_and_interval_are_over_the_best_epochs_of_its_seeds():
    (row,) = build_results(state_of(retrained({1: (0.8, 0.4), 2: (0.5, 0.9), 3: (0.6, 0.6)})))["finalists"]
    assert row["seeds"] == [1, 2, 3]
    assert (row["ratio_mean"], row["ratio_sd"]) == (pytest.approx(0.5), pytest.approx(0.1))
    low, high = row["ratio_interval"]
    assert low < 0.5 < high


def test_a_finalist_whose_seeds_have_not_reached_the_searchs_epoch_has_no_curse():
    (row,) = build_results(state_of(retrained({1: (0.8,)})))["finalists"]
    assert row["retrained_ratio"] is row["curse"] is None


def test_an_eliminated_finalist_says_why():
    events = [
        *retrained({1: (0.8, 0.4)}),
        {"event": "eliminated", "id": "c0", "seeds": [1], "left": 4, "reason": "behind"},
    ]
    (row,) = build_results(state_of(events))["finalists"]
    assert row["eliminated"] == "behind"
