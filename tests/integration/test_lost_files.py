"""Files that the journal names and that are missing or damaged, as after a power cut: they count as lost."""

import os
from pathlib import Path

import pytest
import torch
from event_fixtures import CODES, members, scores, search_event, state_of
from safetensors.torch import load_file, save

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.evaluation.final_models import load_weights
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, save_model
from sepsearch.runs.run_files import scored_files, state_with_files
from sepsearch.runs.state import RunState
from sepsearch.search.finalist_weights import read_weights
from sepsearch.search.journal import Journal, read_journal, read_run
from sepsearch.search.protocol import RETURNED
from sepsearch.search.retraining import FinalPlan
from sepsearch.search.selection import Finalist
from sepsearch.spaces.space import Space, parse_space, stored_space
from sepsearch.training.checkpoint import bring_weights, save_weights
from sepsearch.utils.errors import StorageFault, UserError
from sepsearch.utils.storage import open_storage

SMALL = {"family": "report", "filters": 2}
FINALISTS = [Finalist("c0", "t0001", SMALL, False), Finalist("c1", "t0000", {"family": "report", "filters": 3}, True)]


def weights(params: dict) -> dict[str, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return {code: make_network(make_config(params)).state_dict() for code in CODES}


def make_plan(folder: Path, resume: bool = False) -> FinalPlan:
    journal = Journal(folder / "journal.jsonl", resume=resume)
    return FinalPlan(FINALISTS, [1], journal, folder / "finalists", 1, retries=1)


def train(plan: FinalPlan, unit: str) -> None:
    """What a worker does for a run: weights, then its last epoch's report with their checksums."""
    checksums = save_weights(open_storage(plan.folder), unit, weights(plan.runs[unit].finalist.params))
    numbers = {"ratio": 0.5, "seconds": 1.0, "examples_per_second": 1.0, "members": members(1)}
    plan.result(unit, {"epoch": 1, **numbers, "weights": list(checksums.items())})


def finished(folder: Path) -> None:
    plan = make_plan(folder)
    while handed := plan.next():
        train(plan, handed[0])
        plan.ended(handed[0], RETURNED)
    plan.journal.close()


def reopened(folder: Path) -> FinalPlan:
    plan = make_plan(folder, resume=True)
    plan.restore(list(read_journal(folder / "journal.jsonl")))
    plan.resume()
    return plan


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [empty, zero, flip, Path.unlink])
def test_a_finished_run_whose_weights_are_damaged_is_trained_again_and_then_names_the_new_ones(harm, tmp_path):
    finished(tmp_path)
    harm(tmp_path / "finalists" / "c0-s1" / "vc.safetensors")
    plan = reopened(tmp_path)
    assert list(plan.lost) == ["c0-s1"]
    assert "vc.safetensors" in plan.lost["c0-s1"]
    assert plan.next()[0] == "c0-s1"
    assert plan.next() is None
    train(plan, "c0-s1")
    plan.ended("c0-s1", RETURNED)
    assert plan.runs["c0-s1"].weights == tmp_path / "finalists" / "c0-s1"
    plan.journal.close()
    assert reopened(tmp_path).finished()


@pytest.mark.parametrize("harm", [empty, zero])
def test_under_an_older_journal_files_that_are_none_are_found(harm, tmp_path):
    finished(tmp_path)
    path = tmp_path / "journal.jsonl"
    events = list(read_journal(path))
    path.unlink()
    older = Journal(path)
    for event in events:
        older.append({k: v for k, v in event.items() if k not in ("sum", "sha256", "cause")})
    older.close()
    whole = reopened(tmp_path)
    assert whole.finished()
    whole.journal.close()
    harm(tmp_path / "finalists" / "c0-s1" / "vn.safetensors")
    assert list(reopened(tmp_path).lost) == ["c0-s1"]


def test_weights_that_are_not_what_the_worker_wrote_are_no_success(tmp_path):
    plan = make_plan(tmp_path)
    unit, _ = plan.next()
    train(plan, unit)
    empty(tmp_path / "finalists" / unit / "vn.safetensors")
    plan.ended(unit, RETURNED)
    assert plan.runs[unit].state == ""
    assert plan.next()[0] == unit
    (retry,) = (event for event in read_journal(plan.journal.path) if event["event"] == "retry")
    assert "vn.safetensors: damaged" in retry["reason"]


@pytest.mark.parametrize("harm", [empty, flip])
def test_weights_that_were_lost_stay_so_if_the_run_is_interrupted_before_they_are_trained_again(harm, tmp_path):
    finished(tmp_path)
    harm(tmp_path / "finalists" / "c0-s1" / "vn.safetensors")
    plan = reopened(tmp_path)
    plan.give_up("interrupted")
    plan.journal.close()
    assert plan.runs["c0-s1"].weights is None
    again = reopened(tmp_path)
    assert list(again.unfinished()) == ["c0-s1"]


def test_damaged_weights_that_no_report_tells_of_are_no_success_either(tmp_path):
    plan = make_plan(tmp_path)
    unit, _ = plan.next()
    train(plan, unit)
    plan.journal.close()  # killed before it wrote the end; then the power was cut
    empty(tmp_path / "finalists" / unit / "vn.safetensors")
    again = reopened(tmp_path)
    again.give_up("interrupted")
    assert (again.runs[unit].state, again.runs[unit].weights) == ("stopped", None)


def test_damaged_weights_of_an_earlier_attempt_are_replaced_by_the_next(tmp_path):
    place = open_storage(tmp_path)
    save_weights(place, "c0-s1", weights(SMALL))
    empty(tmp_path / "c0-s1" / "vn.safetensors")
    save_weights(place, "c0-s1", weights(SMALL))
    assert load_file(tmp_path / "c0-s1" / "vn.safetensors")


class Far:
    """A place that is no folder of this machine."""

    local = None

    def __init__(self, folder: Path):
        self.place = open_storage(folder)

    def __truediv__(self, name):
        return self.place / name


def test_a_damaged_copy_of_weights_that_are_elsewhere_is_brought_again(tmp_path):
    checksums = save_weights(open_storage(tmp_path / "far"), "c0-s1", weights(SMALL))
    for _ in range(2):
        bring_weights(Far(tmp_path / "far"), "c0-s1", tmp_path / "here", checksums)
        assert load_file(tmp_path / "here" / "c0-s1" / "vn.safetensors")
        empty(tmp_path / "here" / "c0-s1" / "vn.safetensors")


@pytest.mark.parametrize("harm", [empty, zero, flip, Path.unlink])
def test_weights_that_are_damaged_when_they_are_used_are_one_line(harm, tmp_path):
    finished(tmp_path)
    plan = reopened(tmp_path)
    harm(tmp_path / "finalists" / "c0-s1" / "vn.safetensors")
    with pytest.raises(UserError, match=r"vn.safetensors: the weights are (damaged|missing).*--resume"):
        load_weights(plan.runs["c0-s1"], "vn", "vn")
    with pytest.raises(UserError, match="choose another run"):
        read_weights(plan.runs["c0-s1"], "vn", "choose another run")


def scored(folder: Path, old: bool = False) -> Path:
    """A finished run with models, and the journal that tells of them."""
    for code in CODES:
        network = make_network(make_config({"filters": 2}))
        save_model(folder / "models" / code, network, ModelCard(code, make_config({"filters": 2}), FrontEnd(), 1.0))
    (folder / "samples" / "vn").mkdir(parents=True)
    (folder / "samples" / "vn" / "mixture.mp3").write_bytes(b"sound")
    journal = Journal(folder / "journal.jsonl")
    kind, fields = search_event()
    journal.append({"event": kind, **fields})
    more = {} if old else {"files": scored_files(folder)}
    journal.append({"event": "scores", "final": scores(0.5), "reference_final": {}, "seconds": 1.0, **more})
    journal.append({"event": "registered", "models": dict.fromkeys(CODES, "models:/x/1")})
    journal.append({"event": "end", "state": "finished"})
    journal.close()
    return folder / "journal.jsonl"


def read_state(journal: Path) -> RunState:
    return state_with_files(list(read_run(journal)), journal.parent, open_storage(journal.parent))


def test_scores_whose_files_are_all_there_count(tmp_path):
    run = read_state(scored(tmp_path))
    assert (run.finished, run.registered, run.lost) == (True, True, "")


@pytest.mark.parametrize("file", ["models/vc/model.safetensors", "models/vn/model.json", "samples/vn/mixture.mp3"])
@pytest.mark.parametrize("harm", [empty, flip, Path.unlink])
def test_scores_whose_model_or_sample_is_damaged_do_not(file, harm, tmp_path):
    journal = scored(tmp_path)
    harm(tmp_path / file)
    run = read_state(journal)
    assert file in run.lost
    assert (run.finished, run.registered, run.scored) == (False, False, None)


def test_scores_of_an_older_journal_are_checked_by_what_the_models_say_themselves(tmp_path):
    journal = scored(tmp_path, old=True)
    (tmp_path / "samples" / "vn" / "mixture.mp3").unlink()
    (tmp_path / "samples" / "vn").rmdir()
    assert read_state(journal).finished
    flip(tmp_path / "models" / "vn" / "model.safetensors")
    assert "model.safetensors" in read_state(journal).lost


def test_models_that_were_scored_again_are_registered_again():
    events = [
        {"event": "scores", "final": {"vn": {}}},
        {"event": "registered", "models": {"vn": "models:/x/1"}},
        {"event": "scores", "final": {"vn": {}}},
    ]
    assert state_of(events[:2]).registered
    assert not state_of(events).registered


def space() -> Space:
    """A space with something other than the default in every section."""
    width = {"low": 32, "high": 128, "step": 32}
    return parse_space(
        {
            "parameters": {"filters": [8, 16], "l2": {"low": 0.0, "high": 1e-3}, "detector_width": width},
            "fixed": {"activation": "elu"},
            "search": {"trials": 7, "spared_share": 1},
            "final": {"seeds": 2},
            "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
            "front_end": {"preset": "report", "clip_seconds": 2},
        },
        "x",
    )


@pytest.mark.parametrize("content", [None, b"", bytes(200), b"\n"])
def test_a_lost_space_file_is_written_again_from_the_journal(content, tmp_path):
    path = tmp_path / "space.yaml"
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "search", "space": space().model_dump(mode="json", exclude_none=True)})
    (event,) = read_journal(journal.path)
    if content is not None:
        path.write_bytes(content)
    assert stored_space(path, event["space"]) == space()
    assert "lost" in path.read_text()
    assert stored_space(path, {}) == space()  # by the file


def test_a_space_file_with_a_mistake_in_it_is_not_replaced(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("parameters: {filterz: [8]}\n")
    with pytest.raises(UserError, match="correct that, or remove the file"):
        stored_space(path, space().model_dump(mode="json", exclude_none=True))
    assert "filterz" in path.read_text()


def test_what_a_worker_cannot_write_is_a_fault_of_the_storage_with_the_size_of_the_file(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sepsearch.utils.files.os.fsync", full)
    with pytest.raises(StorageFault, match="No space left on device") as caught:
        save_weights(open_storage(tmp_path), "c0-s1", weights(SMALL))
    assert caught.value.size == sum(len(save(tensors)) for tensors in weights(SMALL).values())
