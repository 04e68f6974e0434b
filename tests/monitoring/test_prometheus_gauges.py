"""Gauges: what they say of a run, at any moment, and how many of them there are."""

import ast
import re
import subprocess
import sys
from itertools import chain

import pytest
from event_fixtures import epoch_event, interrupted_story, journal, members, search_event, story, until

from sepsearch.distributed.worker_metrics import memory_bytes
from sepsearch.monitoring.prometheus import GAUGES, Gauges, Slots, job_readings, readings
from sepsearch.runs.state import RunState
from sepsearch.search.events import Event


def told(events: list[Event], now: float | None = None) -> dict[tuple[str, ...], float]:
    """Name and label values → value, without the search's name."""
    run, slots = RunState(), Slots()
    for event in events:
        run.handle(event)
        slots.update(run.running)
    of_units = (reading for id in run.running for reading in job_readings(run, id, slots.of[id]))
    found = {}
    for name, value, labels in chain(of_units, readings(run, run.last if now is None else now)):
        assert tuple(labels) == GAUGES[name][1]
        assert labels["search"] == "duets"
        found[name.removeprefix("sepsearch_"), *list(labels.values())[1:]] = value
    return found


def test_a_running_trial_has_its_epoch_and_its_ratios_by_instrument():
    begun = [search_event(), ("trial", {"id": "t0000", "params": {}})]
    both = [{**members(2)[0], "ratio": 0.25}, {**members(2)[1], "ratio": 0.75}]
    event = epoch_event("epoch", "t0000", 2, both)
    last = (event[0], {**event[1], "ratio": 0.5})
    found = told(journal([*begun, last]))
    assert found["epoch", "0"] == 2
    assert found["trial_number", "0"] == 0
    assert [found["ratio", "0", code] for code in ("vn", "vc", "all")] == [0.25, 0.75, 0.5]
    end = ("trial_end", {"id": "t0000", "state": "completed", "reason": "", "epochs": 2})
    found = told(journal([*begun, last, end]))
    assert [found["best_ratio", code] for code in ("vn", "vc", "all")] == [0.25, 0.75, 0.5]


def test_a_ratio_that_is_no_number_is_left_out():
    both = [{**members(1)[0], "ratio": None}, members(1)[1]]
    begun = [search_event(), ("trial", {"id": "t0000", "params": {}})]
    event = epoch_event("epoch", "t0000", 1, both)
    found = told(journal([*begun, (event[0], {**event[1], "ratio": None})]))
    assert {key for key in found if key[0] == "ratio"} == {("ratio", "0", "vc")}


def test_only_units_at_work_have_series_of_their_own():
    events = journal(story())
    during = told(until(events, "epoch", "t0001"))
    of_units = ("epoch", "ratio", "trial_number")
    assert {key[1] for key in during if key[0] in of_units} == {"0"}
    assert during["trial_number", "0"] == 1
    finalists = told(until(events, "final_epoch", "c0-s1"))
    assert {key[:2] for key in finalists if key[0] in of_units} == {("epoch", "0"), ("ratio", "0")}
    assert not [key for key in told(events) if key[0] in of_units]


def test_a_unit_keeps_its_slot_and_a_new_one_takes_the_lowest_that_is_free():
    slots = Slots()
    assert slots.update(["t0", "t1", "t2"]) == {"t0": 0, "t1": 1, "t2": 2}
    assert slots.update(["t0", "t2"]) == {"t0": 0, "t2": 2}
    assert slots.update(["t0", "t2", "t3"]) == {"t0": 0, "t2": 2, "t3": 1}
    assert slots.update(["t4"]) == {"t4": 0}


def test_thousands_of_trials_use_as_many_label_sets_as_run_at_a_time(monkeypatch):
    used: dict[str, set[tuple[str, ...]]] = {}

    class Recorded:
        def __init__(self, name):
            self.name = name

        def set(self, value, labels):
            used.setdefault(self.name, set()).add(tuple(labels.values()))

    monkeypatch.setattr("sepsearch.monitoring.prometheus.make_gauge", lambda name, *about: Recorded(name))
    run, at_a_time = RunState(), 4
    gauges = Gauges(run)
    planned = [search_event()]
    for number in range(500 + at_a_time):
        if number >= at_a_time:
            planned.append(
                ("trial_end", {"id": f"t{number - at_a_time:04d}", "state": "stopped", "reason": "", "epochs": 1})
            )
        planned.append(("trial", {"id": f"t{number:04d}", "params": {}}))
        event = epoch_event("epoch", f"t{number:04d}", 1, members(1))
        planned.append((event[0], {**event[1], "ratio": 0.5}))
    for event in journal(planned):
        run.handle(event)
        gauges.handle(event)
    assert used["sepsearch_epoch"] == {("duets", str(slot)) for slot in range(at_a_time)}
    assert len(used["sepsearch_ratio"]) == at_a_time * 3


def test_trials_are_counted_by_state_and_so_are_finalists():
    events = journal(story())
    during = told(until(events, "epoch", "t0001"))
    states = {key[2]: value for key, value in during.items() if key[:2] == ("trials", "search")}
    assert states == {"waiting": 1, "running": 1, "completed": 1, "stopped": 0, "failed": 0}
    end = told(events)
    states = {key[2]: value for key, value in end.items() if key[:2] == ("trials", "search")}
    assert states == {"waiting": 0, "running": 0, "completed": 1, "stopped": 1, "failed": 1}
    assert end["trials", "finalists", "completed"] == 2


def test_interrupted_trials_run_again_after_a_resume():
    events = journal(interrupted_story())
    before, after = told(until(events, "end")), told(until(events, "resume"))
    assert (before["trials", "search", "stopped"], before["trials", "search", "running"]) == (2, 0)
    assert (after["trials", "search", "stopped"], after["trials", "search", "running"]) == (0, 2)


def test_speed_falls_while_nothing_happens():
    events = until(journal(story()), "epoch", "t0001")
    now = events[-1]["time"]
    assert told(events, now)["epochs_per_second",] == 3 / (now - events[0]["time"])
    assert told(events, now + 100)["epochs_per_second",] < 0.03


def test_names_have_their_units_as_prometheus_wants_them_and_texts_that_ray_can_take():
    for name, (text, labels) in GAUGES.items():
        assert re.fullmatch(
            r"sepsearch_[a-z_]+(ratio|epoch|trials|_per_second|_seconds|_bytes|_number)", name
        ) or name in ("sepsearch_ratio", "sepsearch_epoch", "sepsearch_trials")
        assert text.isascii(), "Ray refuses others, in the worker"
        assert labels[0] == "search"


def test_memory_of_a_process_grows_with_what_it_holds():
    before = memory_bytes(gpu=False)
    held = bytes(bytearray(b"x") * 2**26)
    assert memory_bytes(gpu=False)["cpu"] - before["cpu"] > 0.9 * len(held)


ON_GPU = """
import ray
from sepsearch.distributed.worker_metrics import memory_bytes
from sepsearch.distributed.session import ray_session

def hold():
    import torch
    held = torch.zeros(2**26, dtype=torch.uint8, device="cuda")
    return memory_bytes(gpu=True)

with ray_session(cpus=1, dashboard=False):
    print(ray.get(ray.remote(num_gpus=0.25)(hold).remote()))
"""


@pytest.mark.gpu
def test_memory_of_a_worker_on_a_gpu_is_told_by_device():
    done = subprocess.run([sys.executable, "-c", ON_GPU], capture_output=True, text=True, timeout=200, check=True)
    found = ast.literal_eval(done.stdout)
    (device,) = set(found) - {"cpu"}
    assert re.fullmatch(r"gpu\d+", device)
    assert 2**26 <= found[device] < 2**29
