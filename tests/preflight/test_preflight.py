"""Preflight: corners of a space, folders, nodes, a batch of everything, and the forecast."""

import dataclasses
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from plugin_fixtures import install_family
from stored_task import stored_task
from synthetic import synthetic_data

from sepsearch.data.dataset import EVALUATION_BATCH, Dataset, Pairs
from sepsearch.distributed import nodes
from sepsearch.distributed.nodes import Node, check_nodes, look_around
from sepsearch.models.families import config_params, count_parameters, make_config, make_network
from sepsearch.preflight import corner_configurations, dry_run
from sepsearch.preflight.checks import check_folders, check_memory, preflight
from sepsearch.preflight.corner_configurations import corner_configs, difference, parameter_counts
from sepsearch.preflight.dry_run import Trained, measure, steadied, train_corners
from sepsearch.preflight.estimates import (
    Disk,
    Forecast,
    Job,
    Measured,
    Times,
    epoch_seconds,
    forecast_disk,
    forecast_times,
)
from sepsearch.search.protocol import Workers
from sepsearch.search.stopping.forecast import MANY, expected_epochs
from sepsearch.spaces.space import load_space, parse_space
from sepsearch.training.loop import fit
from sepsearch.training.members import TrainingFailed
from sepsearch.utils import storage
from sepsearch.utils.errors import UserError, no_space
from sepsearch.utils.storage import open_storage

SPACES = Path(__file__).parents[2] / "search_spaces"
DISK = Disk(checkpoints=3_000_000_000, journal=1_000_000, tracking=2_000_000_000)


def space(parameters: dict, **sections):
    return parse_space({"parameters": parameters, **sections}, "space.yaml")


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_corner_is_validated_on_one_batch_and_on_a_cpu_on_a_few_examples_of_the_other_instruments():
    pairs = Pairs(np.arange(100), np.arange(100), np.zeros(100, np.int64))
    data = Dataset(None, {code: {"train": pairs, "validation": pairs} for code in ("vn", "vc", "fl")}, {})

    def counts(gpu):
        return [len(sides["validation"]) for sides in dry_run.few_examples(data, gpu).examples.values()]

    assert counts(gpu=False) == [EVALUATION_BATCH, dry_run.FEW, dry_run.FEW]
    assert counts(gpu=True) == [EVALUATION_BATCH] * 3


# Corners


@pytest.mark.parametrize("name", ["laptop", "detector"])
def test_every_choice_and_both_ends_of_every_range_are_in_a_corner_of_the_spaces_that_come_along(name):
    searched = load_space(SPACES / f"{name}.yaml")
    configs = corner_configs(searched)
    for key, parameter in searched.parameters.items():
        assert set(parameter.corners()) <= {params[key] for params in configs if key in params}
    assert len(configs) <= corner_configurations.MOST_CORNERS


def test_the_reference_is_the_first_corner_and_none_comes_twice():
    searched = load_space(SPACES / "detector.yaml")
    configs = corner_configs(searched)
    assert configs[0] == config_params(make_config({}))
    assert len({repr(sorted(params.items())) for params in configs}) == len(configs)


def test_a_conditional_parameter_is_tried_where_its_condition_holds_and_has_the_default_elsewhere():
    condition = {"choices": [32, 64], "when": {"detector_layers": 2}}
    configs = corner_configs(space({"detector_layers": [1, 2], "detector_width": condition}))
    widths = {layers: {c["detector_width"] for c in configs if c["detector_layers"] == layers} for layers in (1, 2)}
    assert widths == {1: {0}, 2: {32, 64}}


def test_the_largest_of_all_numbers_together_is_a_corner_and_so_is_the_smallest():
    configs = corner_configs(space({"filters": [8, 32], "batch_size": {"low": 16, "high": 64}}))
    pairs = [(params["filters"], params["batch_size"]) for params in configs]
    assert (32, 64) in pairs
    assert (8, 16) in pairs


def test_the_largest_and_the_smallest_follow_the_reference_because_the_first_few_are_tried_first():
    configs = corner_configs(space({"filters": [8, 16, 32], "batch_size": [16, 24, 64]}))
    assert [(params["filters"], params["batch_size"]) for params in configs[1:3]] == [(32, 64), (8, 16)]


def test_what_the_largest_numbers_leave_out_by_a_condition_is_tried_with_the_condition():
    condition = {"choices": [32, 4096], "when": {"detector_layers": 1}}
    configs = corner_configs(space({"filters": [8, 32], "detector_layers": [1, 2], "detector_width": condition}))
    assert [32, 1, 4096] in [[c["filters"], c["detector_layers"], c["detector_width"]] for c in configs]


def test_many_choices_are_thinned_out_to_the_limit_and_both_ends_stay():
    configs = corner_configs(space({"filters": list(range(1, 101)), "batch_size": [16, 32]}), most=10)
    assert len(configs) <= 10
    assert {1, 100} <= {params["filters"] for params in configs}


def test_all_corners_but_the_reference_keep_to_what_the_space_fixes():
    configs = corner_configs(space({"filters": [24, 32], "activation": "gelu"}))
    assert [params["activation"] for params in configs[1:]] == ["gelu"] * (len(configs) - 1)
    assert {params["filters"] for params in configs[1:]} == {24, 32}


def test_no_corner_but_the_reference_has_a_value_that_is_never_drawn():
    # The reference's kernel of 16 lies between the steps, and so would the end 33.
    stepped = {"low": 5, "high": 33, "step": 3}
    configs = corner_configs(space({"detector_kernel_frequency": stepped, "filters": [8, 24]}))
    assert {params["detector_kernel_frequency"] for params in configs[1:]} == {5, 8, 32}


def test_networks_are_counted_as_they_will_be_built():
    configs = corner_configs(load_space(SPACES / "laptop.yaml"))[:3]
    assert parameter_counts(configs) == [count_parameters(make_network(make_config(params))) for params in configs]


def test_a_corner_that_no_network_can_be_built_from_is_named(monkeypatch):
    def build(config):
        if config.network.filters == 24:
            raise ValueError("kernel larger than input\nand more")
        return make_network(config)

    monkeypatch.setattr(corner_configurations, "make_network", build)
    with pytest.raises(UserError) as error:
        parameter_counts(corner_configs(space({"filters": [16, 24]})))
    text = one_line(error)
    assert "corner filters 24 cannot be trained: ValueError: kernel larger than input: narrow filters" in text


# Folders


def test_folders_that_can_be_written_are_left_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_folders(tmp_path / "runs" / "new", Disk(1, 1, 1))
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_runs_folder_should_be_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError) as error:
        check_folders(tmp_path / "runs" / "new")
    assert "cannot be written: Not a directory: choose another disk with --runs" in one_line(error)


def test_a_database_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "mlflow.db")
    with pytest.raises(UserError, match=r"mlflow.db: cannot be written.*MLFLOW_TRACKING_URI"):
        check_folders(tmp_path / "runs" / "new")


def free(monkeypatch, amount: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=amount))


def test_a_disk_too_full_for_the_checkpoints_is_one_line_with_both_amounts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    free(monkeypatch, 12e6)
    with pytest.raises(UserError) as error:
        check_folders(tmp_path / "runs" / "new", DISK)
    assert "need up to 3.0 GB on its disk, found 12 MB free" in one_line(error)
    assert "--runs" in one_line(error)


def test_what_lies_on_one_disk_is_added_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    free(monkeypatch, 4e9)
    with pytest.raises(UserError, match=r"need up to 5.0 GB on its disk, found 4.0 GB free.*MLFLOW_TRACKING_URI"):
        check_folders(tmp_path / "runs" / "new", DISK)


def test_a_tracking_server_needs_no_room_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    free(monkeypatch, 4e9)
    check_folders(tmp_path / "runs" / "new", DISK)
    with pytest.raises(UserError, match="need up to"):
        check_folders(tmp_path / "runs" / "new", dataclasses.replace(DISK, checkpoints=4_000_000_000))


# Nodes


def by_value() -> None:
    """Workers cannot import the tests."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_a_node_that_sees_the_folder_is_told_with_its_memory_and_nothing_is_left_there(ray_workers, tmp_path):
    (node,) = check_nodes(open_storage(tmp_path / "runs" / "new"), ray_workers)
    assert node.trials == 2
    total, unused = node.memory
    assert 0 < unused <= total
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_is_the_only_node_is_looked_at_without_starting_a_worker(ray_workers, tmp_path, monkeypatch):
    seen = []

    def look(room, token):
        seen.append(os.getpid())
        return {"problem": "", "versions": nodes.versions(), "memory": (2, 1)}

    monkeypatch.setattr(nodes, "look_around", look)
    (node,) = check_nodes(open_storage(tmp_path), ray_workers)
    assert seen == [os.getpid()]
    assert node.memory == (2, 1)


def answer(problem: str = "", **other):
    def look(path, token):
        return {"problem": problem, "versions": {**nodes.versions(), **other}, "memory": None}

    return look


def test_a_node_that_does_not_see_the_folder_is_named(ray_workers, tmp_path):
    by_value()
    with pytest.raises(UserError) as error:
        check_nodes(open_storage(tmp_path), ray_workers, answer("is not seen there"))
    text = one_line(error)
    assert text.startswith(f"node {os.uname().nodename} (127.0.0.1): {tmp_path} is not seen there")
    assert "--storage" in text


def test_a_node_with_another_version_is_named_with_both(ray_workers, tmp_path):
    by_value()
    with pytest.raises(UserError) as error:
        check_nodes(open_storage(tmp_path), ray_workers, answer(torch="1.0"))
    assert f"(127.0.0.1): torch is 1.0, expected {nodes.versions()['torch']} as here" in one_line(error)


@pytest.mark.parametrize(("there", "said"), [({}, "not installed"), ({"own-networks": "0.9+abc"}, "0.9+abc")])
def test_a_node_without_the_distribution_of_a_family_or_with_another_version_is_named(
    there, said, ray_workers, tmp_path
):
    by_value()
    with pytest.raises(UserError) as error:
        check_nodes(open_storage(tmp_path), ray_workers, answer(**there), plugins={"own-networks": "1.0+abc"})
    assert f"own-networks is {said}, expected 1.0+abc as here" in one_line(error)


def test_a_node_says_the_versions_of_its_plugins(tmp_path, monkeypatch):
    install_family(tmp_path, "node_net", "node-networks")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = nodes.look_around(open_storage(tmp_path), "token")["versions"]
    assert seen["node-networks"].startswith("1.0+")
    assert seen.keys() >= nodes.versions(nodes.ALIKE).keys()


def test_a_node_that_cannot_run_the_check_is_named_with_the_reason(ray_workers, tmp_path):
    def look(path, token):
        raise ModuleNotFoundError("No module named 'sepsearch'")

    by_value()
    with pytest.raises(UserError) as error:
        check_nodes(open_storage(tmp_path), ray_workers, look)
    assert "cannot run sepsearch (ModuleNotFoundError: No module named 'sepsearch')" in one_line(error)


def test_a_node_that_does_not_answer_in_time_is_named(ray_workers, tmp_path):
    by_value()
    with pytest.raises(UserError) as error:
        check_nodes(open_storage(tmp_path), ray_workers, lambda path, token: time.sleep(1.5), patience=0.3)
    assert "(127.0.0.1): no answer within 0.3 s" in one_line(error)


def test_a_node_with_an_empty_or_another_folder_under_the_path_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "FILE_SECONDS", 0.0)
    assert look_around(open_storage(tmp_path), "abc")["problem"] == "is not seen there"
    (tmp_path / "token").write_text("xyz")
    assert look_around(open_storage(tmp_path), "abc")["problem"] == "is another folder there"


def test_a_node_that_can_read_but_not_write_says_so(tmp_path, monkeypatch):
    def refuse(path, content):
        raise no_space(OSError(30, "Read-only file system"), path)

    (tmp_path / "token").write_text("abc")
    assert look_around(open_storage(tmp_path), "abc")["problem"] == ""
    monkeypatch.setattr(storage, "write_atomically", refuse)
    found = look_around(open_storage(tmp_path), "abc")["problem"]
    assert found == "there: cannot be written: Read-only file system"


# A batch of every corner


@pytest.fixture(scope="module")
def task(ray_workers):
    return stored_task("preflight")


SMALL = {"filters": [1, 2], "batch_size": 4}


def test_preflight_tries_all_corners_and_forecasts(task, ray_workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    searched = space(SMALL, search={"trials": 4}, final={"configurations": 1, "seeds": 2})
    settings = SimpleNamespace(trials=4, epochs=2, final_epochs=3, instruments=("vn", "vc"))
    told = []
    found = preflight(
        searched,
        settings,
        task,
        Workers(1, 1.0, 0.0),
        tmp_path / "runs" / "new",
        open_storage(tmp_path / "runs" / "new"),
        time_budget=1e6,
        progress=lambda *step: told.append(step),
    )
    count = len(corner_configs(searched))
    assert [done for _, done, _ in told] == list(range(count + 1))
    assert found.corners == (count, count)
    assert 50e6 < found.memory < 5e9
    assert found.times.search > found.times.trial > found.times.epoch > 0
    assert found.times.fitting == 4
    assert found.line().startswith(f"preflight: {count} corner configurations tried, all fit")
    assert list(tmp_path.iterdir()) == []


def test_preflight_without_corners_trains_nothing(task, ray_workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "train_corners", None)
    settings = SimpleNamespace(trials=4, epochs=2, final_epochs=3, instruments=("vn", "vc"))
    found = preflight(space(SMALL), settings, task, ray_workers, tmp_path, open_storage(tmp_path), corners=False)
    assert found.times is None
    assert found.line().startswith("preflight: checkpoints at most")


def failing_fit(config, data, members, **settings):
    if config.network.filters == 2:
        raise RuntimeError("out of memory\nTraceback …")
    yield SimpleNamespace(examples_per_second=1.0, seconds=1.0)


def test_a_corner_that_raises_is_one_line_that_names_it(task, ray_workers):
    by_value()
    with pytest.raises(UserError) as error:
        train_corners(dataclasses.replace(task, fit=failing_fit), corner_configs(space(SMALL)), Workers(1, 1.0, 0.0))
    assert "corner filters 2, " in one_line(error)
    assert "cannot be trained: RuntimeError: out of memory: narrow filters or" in one_line(error)


def dying_fit(config, data, members, **settings):
    if config.network.filters == 2:
        os._exit(1)
    yield SimpleNamespace(examples_per_second=1.0, seconds=1.0)


def test_a_corner_whose_worker_dies_is_named_and_not_waited_for(task, ray_workers):
    by_value()
    with pytest.raises(UserError) as error:
        train_corners(dataclasses.replace(task, fit=dying_fit), corner_configs(space(SMALL)), Workers(1, 1.0, 0.0))
    assert "corner filters 2, " in one_line(error)
    assert "its worker died" in one_line(error)


def test_workers_that_find_no_room_are_waited_for_only_so_long(task, ray_workers):
    with pytest.raises(UserError) as error:
        train_corners(task, corner_configs(space(SMALL)), Workers(1, 1000.0, 0.0), patience=0.2)
    assert "no worker was ready within 0.2 s" in one_line(error)
    assert "--cpus-per-trial" in one_line(error)


def reference(**changes) -> dict:
    return {**config_params(make_config({})), "filters": 1, "batch_size": 4, **changes}


def test_a_network_whose_output_is_no_spectrogram_is_refused(monkeypatch):
    monkeypatch.setattr(dry_run, "make_network", lambda config: torch.nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match=r"output is \(1, 1, 126, 126\), expected \(1, 1, 128, 128\)"):
        measure(reference(), synthetic_data(), ("vn", "vc"), fit, 1)


def test_a_loss_that_is_not_finite_is_no_error():
    def diverging(config, data, members, **settings):
        raise TrainingFailed("NaN: the training loss of vn is nan in epoch 1")
        yield

    measured = measure(reference(), synthetic_data(), ("vn", "vc"), diverging, 2).measured
    assert measured.training > 0
    assert measured.evaluation > 0


def test_memory_counts_all_networks_of_a_unit_though_one_is_trained():
    wide = reference(detector_layers=2, detector_width=512)
    parameters = parameter_counts([wide])[0]
    alone = measure(wide, synthetic_data(), ("vn",), fit, 1)
    many = measure(wide, synthetic_data(), ("vn",) * 13, fit, 1)
    assert many.measured.host_bytes - alone.measured.host_bytes > 12 * parameters * 16


def test_a_batch_that_met_others_at_work_counts_by_its_processor_time():
    calm = Trained(corner(1), wall=1.0, cpu=1.0)
    met = Trained(corner(1), wall=3.0, cpu=1.0)  # both take 1 s per example by the clock
    first, second = steadied([calm, met])
    assert first.training == pytest.approx(2.0)  # all in all the clock ran twice as fast as the processor
    assert second.training == pytest.approx(2.0 / 3)


# Memory


def corner(gigabytes: float, gpu: float = 0, **changes) -> Measured:
    return Measured(reference(**changes), 1.0, 1.0, int(gigabytes * 1e9), int(gpu * 1e9))


def test_trials_that_need_more_memory_than_a_node_has_are_refused_with_how_many_fit():
    node = Node("big (10.0.0.1)", trials=8, memory=(int(16e9), int(15e9)))
    with pytest.raises(UserError) as error:
        check_memory([corner(1), corner(3, filters=32)], [node], Workers(8, 1.0, 0.0), 0)
    text = one_line(error)
    assert (
        "node big (10.0.0.1): 8 trials at once need up to 24.0 GB of memory (3.0 GB each at the corner filters 32)"
        in text
    )
    assert "found 16.0 GB: lower --workers (to 5 on such a node)" in text


def test_memory_that_others_hold_at_present_is_a_note():
    node = Node("big", trials=4, memory=(int(16e9), int(8e9)))
    (note,) = check_memory([corner(1), corner(3, filters=32)], [node], Workers(4, 1.0, 0.0), 0)
    assert "8.0 GB are free now" in note
    assert check_memory([corner(1)], [node], Workers(4, 1.0, 0.0), 0) == []


def test_trials_that_need_more_memory_than_a_gpu_has_are_refused_with_the_share_that_fits():
    measured = [corner(1, gpu=1), corner(1, gpu=9, batch_size=64)]
    with pytest.raises(UserError) as error:
        check_memory(measured, [], Workers(4, 1.0, 0.25), int(24e9))
    assert "4 trials on a GPU need up to 36.0 GB of its memory (9.0 GB each at the corner batch_size 64)" in one_line(
        error
    )
    assert "raise --gpus-per-trial to 0.5" in one_line(error)
    assert check_memory(measured, [], Workers(2, 1.0, 0.5), int(24e9)) == []


# The forecast


def job(parameters: dict | None = None, concurrent: int = 2, trials: int = 8, **search) -> Job:
    rungs = {"grace_epochs": 100, "reduction_factor": 2, **search}
    searched = space(parameters or {"filters": [8, 16]}, search=rungs, final={"configurations": 1, "seeds": 2})
    return Job(searched, trials, 4, 6, networks=3, training_examples=100, validation_examples=10, concurrent=concurrent)


def test_without_rungs_every_trial_runs_all_epochs():
    assert expected_epochs(3, 4, job().space) == [4, 8, 12]


def test_with_two_trials_and_one_rung_the_second_stops_there_in_one_case_of_two():
    rungs = {"grace_epochs": 1, "reduction_factor": 2, "stopping": "asha"}
    first, both = expected_epochs(2, 4, job(epochs=2, **rungs).space)
    assert first == 4
    assert both - first == pytest.approx(2.5, abs=0.8)  # rungs at 1 and 2: 1 epoch or all 4, in 20 draws


@pytest.mark.parametrize("stopping", ["asha", "asha_promotion", "curve_model"])
def test_about_one_in_so_many_goes_on_at_every_rung(stopping):
    epochs = expected_epochs(400, 9, job(grace_epochs=1, reduction_factor=3, stopping=stopping).space)
    # 1 epoch for all, 2 more for a third, 6 more for a ninth; a few more, as the first are judged by few.
    assert epochs[-1] / 400 == pytest.approx(1 + 2 / 3 + 6 / 9, rel=0.15)


def test_with_pasha_no_trial_passes_the_second_rung_where_rankings_never_change():
    epochs = expected_epochs(400, 9, job(grace_epochs=1, reduction_factor=3, stopping="pasha").space)
    assert epochs[-1] / 400 == pytest.approx(1 + 2 / 3, rel=0.15)


def test_more_trials_than_are_simulated_go_on_at_the_same_rate():
    epochs = expected_epochs(3 * MANY, 9, job(grace_epochs=1, reduction_factor=3).space)
    assert len(epochs) == 3 * MANY
    assert epochs[-1] == pytest.approx(3 * epochs[MANY - 1], rel=0.1)


def test_spared_trials_run_to_their_end():
    assert expected_epochs(8, 4, job(grace_epochs=1, spared_share=1.0).space)[-1] == pytest.approx(32)


def test_an_epoch_is_whole_batches_of_all_networks_and_their_validation():
    measured = Measured(reference(batch_size=32), training=0.01, evaluation=0.002, host_bytes=0)
    assert epoch_seconds(measured, job()) == pytest.approx(3 * (96 * 0.01 + 10 * 0.002))


def timed(training: float, **changes) -> Measured:
    return Measured({**job().space.complete({}), "batch_size": 50, **changes}, training, 0.0, 0)


def test_the_search_is_the_reference_and_trials_as_long_as_the_space_is_on_average():
    times = forecast_times(
        [timed(0.01), timed(0.005, filters=8)], job({"filters": [8, 16], "batch_size": 50}), startup=5.0
    )
    assert times.epoch == pytest.approx(3.0)
    assert times.trial == pytest.approx(12.0)
    # 4 epochs of 3 s and 28 of 2.25 s on two workers, one of which waits for half of a mean trial at the end.
    work = 12 + 28 * 2.25
    assert times.search == pytest.approx(5 + work / 2 + work / 8 / 4)
    # Two configurations with two seeds on two workers: 2 times 6 epochs.
    assert times.finalists == pytest.approx(5 + 2 * 6 * (2.25 + 3) / 2)
    assert times.fitting is None


def test_a_space_of_another_family_with_one_parameter_has_a_forecast():
    own = dataclasses.replace(
        job(), space=parse_space({"family": "unet", "parameters": {"channels": [8, 16]}, "search": {"epochs": 4}}, "s")
    )
    corners = [{**own.space.complete({"channels": channels}), "batch_size": 50} for channels in (8, 16)]
    small, large = (Measured(params, training, 0.0, 0) for params, training in zip(corners, (0.01, 0.03), strict=True))
    times = forecast_times([timed(0.01), small, large], own, startup=0.0)
    assert times.epoch == pytest.approx(3.0)
    assert times.search > forecast_times([timed(0.01), small], own, startup=0.0).search


def test_a_search_cannot_be_shorter_than_one_whole_trial():
    times = forecast_times([timed(0.01)], job(concurrent=100), startup=0.0)
    assert times.search >= times.trial


def test_a_time_budget_says_how_many_trials_fit_and_ends_the_search():
    plenty = forecast_times([timed(0.01)], job(), startup=0.0, budget=1000.0)
    assert (plenty.fitting, plenty.search < 1000) == (8, True)
    short = forecast_times([timed(0.01)], job(), startup=0.0, budget=30.0)
    assert short.search == 30.0
    assert forecast_times([timed(0.01)], job(trials=short.fitting), 0.0).search <= 30.0
    assert forecast_times([timed(0.01)], job(trials=short.fitting + 1), 0.0).search > 30.0


def test_checkpoints_hold_four_numbers_a_parameter_twice_while_they_are_replaced():
    disk = forecast_disk(1000, job(stopping="asha"))
    weights = 3 * 1000 * 4
    assert disk.checkpoints == 2 * 2 * 4 * weights + (4 + 1) * weights


def test_where_trials_pause_all_of_them_may_have_a_checkpoint():
    stopping, pausing = (forecast_disk(1000, job(trials=8, stopping=name)) for name in ("asha", "pasha"))
    assert pausing.checkpoints - stopping.checkpoints == 8 * 4 * 3 * 1000 * 4


def test_the_forecast_is_one_line():
    found = Forecast(Disk(210_000_000, 0, 0), 100, (23, 23), 1_200_000_000, Times(14.0, 60.0, 3600.0, 180.0, 31))
    assert found.line() == (
        "preflight: 23 corner configurations tried, all fit (largest 1.2 GB); about 14 s an epoch, search about 60 min"
        " (about 31 of 100 trials fit in the time budget), finalists about 3 min; checkpoints at most 210 MB"
    )


def test_a_corner_is_told_by_what_it_has_otherwise_than_the_reference():
    first = reference()
    assert difference({**first, "filters": 32, "head": "mask"}, first) == "filters 32, head mask"
