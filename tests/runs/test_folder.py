"""Runs in an object store, brought to this machine: all that counts, and nothing outside the run's folder."""

import pytest
from fake_s3 import fake_s3
from hostile import fuzz_journal

from sepsearch.data.remote_shards import fetch_shards
from sepsearch.runs.folder import fetch_run, take_over
from sepsearch.runs.options import parse_arguments
from sepsearch.runs.start import resumed_run
from sepsearch.search.remote_journal import RemoteJournal
from sepsearch.training.checkpoint import bring_weights
from sepsearch.utils.errors import UserError
from sepsearch.utils.storage import open_storage

RUN = "bucket/runs/far/"


@pytest.fixture
def server(monkeypatch):
    """A run whose journal is whole, with a model and a finalist's weights."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with fake_s3() as server:
        lines = fuzz_journal.write_lines(fuzz_journal.make_story(1)).splitlines(keepends=True)
        server.objects |= {f"{RUN}journal/{number:09d}.jsonl": line for number, line in enumerate(lines)}
        files = {"space.yaml": b"s", "models/vn/model.json": b"m", "finalists/c0-s0/vn.safetensors": b"w"}
        server.objects |= {RUN + name: content for name, content in files.items()}
        yield server


def storage(server):
    return f"s3://bucket/runs?scheme=http&region=eu&endpoint_override={server.address.removeprefix('http://')}"


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_run_is_fetched_with_its_journal_models_and_weights(server, tmp_path):
    fetch_run(storage(server), "far", tmp_path / "runs" / "far")
    expected = ["finalists/c0-s0/vn.safetensors", "journal.jsonl", "models/vn/model.json", "space.yaml"]
    assert files(tmp_path / "runs" / "far") == expected
    story = fuzz_journal.write_lines(fuzz_journal.make_story(1))
    assert (tmp_path / "runs" / "far" / "journal.jsonl").read_bytes() == story


@pytest.mark.parametrize("part", ["models", "samples", "finalists", "folds"])
@pytest.mark.parametrize("name", ["../../../evil", "/etc/evil", "a\\..\\evil", "C:/evil", "x//evil"])
def test_a_planted_key_is_refused_by_name_and_nothing_is_written_outside(server, tmp_path, part, name):
    server.objects[f"{RUN}{part}/{name}"] = b"evil"
    with pytest.raises(UserError, match=rf"s3://bucket/runs/far/{part}: .*evil.*remove it, and see who can write it"):
        fetch_run(storage(server), "far", tmp_path / "runs" / "far")
    assert not list(tmp_path.rglob("*evil*"))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("link", ["models", "models/vn"])
def test_a_link_in_the_runs_folder_is_not_followed_out_of_it(server, tmp_path, link):
    path = tmp_path / "runs" / "far" / link
    path.parent.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="a symbolic link leads to"):
        fetch_run(storage(server), "far", tmp_path / "runs" / "far")
    assert files(tmp_path / "outside") == []


def test_weights_of_a_unit_with_a_planted_id_are_not_brought(server, tmp_path):
    server.objects["bucket/runs/evil/vn.safetensors"] = b"evil"
    with pytest.raises(UserError, match=r"the name '\.\./\.\./evil' has a part '\.\.'"):
        bring_weights(open_storage(storage(server)) / "far" / "finalists", "../../evil", tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_planted_manifest_of_shards_names_no_file_outside(server, tmp_path):
    server.objects["bucket/runs/.shards/f/manifest.json"] = (
        b'{"schema_version": 1, "pieces": [{"shard": {"file": "../x"}}]}'
    )
    with pytest.raises(UserError, match=r"delete s3://bucket/runs/.shards/f and run again"):
        fetch_shards(open_storage(storage(server)) / ".shards" / "f", tmp_path / "cache" / "f", lambda *_: None)
    assert files(tmp_path) == []


LINES = fuzz_journal.write_lines(fuzz_journal.make_story(1)).splitlines(keepends=True)
OTHER = fuzz_journal.write_lines([{**fuzz_journal.make_story(1)[0], "run": "r2"}, *fuzz_journal.make_story(1)[1:]])


@pytest.fixture
def resume(server, tmp_path):
    """Takes over the run, with a journal of its own in this machine's folder; gives the note and the folder."""
    folder, place = tmp_path / "runs" / "far", open_storage(storage(server)) / "far"

    def act(here):
        folder.mkdir(parents=True)
        (folder / "journal.jsonl").write_bytes(here)
        remote = RemoteJournal(place / "journal")
        try:
            return take_over(place, remote, folder, "far"), folder
        finally:
            remote.release()

    return act


def journals(folder):
    return {path.name: path.read_bytes() for path in folder.glob("journal.jsonl*")}


@pytest.mark.parametrize("lines", [0, 3, len(LINES)], ids=["empty", "shorter", "equal"])
def test_a_copy_that_the_storage_has_grown_beyond_is_brought_up_to_date(lines, resume):
    note, folder = resume(b"".join(LINES[:lines]))
    assert note == ""
    assert journals(folder) == {"journal.jsonl": b"".join(LINES)}


def test_a_last_line_that_never_reached_the_storage_is_kept_aside(resume, server):
    del server.objects[f"{RUN}journal/{len(LINES) - 1:09d}.jsonl"]
    note, folder = resume(b"".join(LINES))
    assert "its last line never reached s3://bucket/runs/far/journal" in note
    assert "the old file is journal.jsonl.1 now" in note
    assert journals(folder) == {"journal.jsonl": b"".join(LINES[:-1]), "journal.jsonl.1": b"".join(LINES)}


def test_a_sound_journal_is_not_replaced_by_a_shorter_one(resume, server, tmp_path):
    for number in range(3, len(LINES)):
        del server.objects[f"{RUN}journal/{number:09d}.jsonl"]
    with pytest.raises(UserError, match=rf"has {len(LINES)} lines, expected that .* has all .*, found 3 lines there"):
        resume(b"".join(LINES))
    assert journals(tmp_path / "runs" / "far") == {"journal.jsonl": b"".join(LINES)}


@pytest.mark.parametrize("lines", [1, None], ids=["one line", "whole"])
def test_another_runs_journal_is_not_replaced(lines, resume, tmp_path):
    here = b"".join(OTHER.splitlines(keepends=True)[:lines])
    with pytest.raises(UserError, match=r"the journal of another run \(r2\), expected that of the run in .* \(r1\)"):
        resume(here)
    assert journals(tmp_path / "runs" / "far") == {"journal.jsonl": here}


def test_a_damaged_copy_is_kept_aside(resume):
    damaged = b"".join([*LINES[:2], b"x", *LINES[3:]])
    note, folder = resume(damaged)
    assert "was damaged, and was replaced by the journal in s3://bucket/runs/far/journal" in note
    assert journals(folder) == {"journal.jsonl": b"".join(LINES), "journal.jsonl.1": damaged}


def test_fetch_does_not_replace_another_runs_journal(server, tmp_path):
    folder = tmp_path / "runs" / "far"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(OTHER)
    with pytest.raises(UserError, match="the journal of another run"):
        fetch_run(storage(server), "far", folder)
    assert journals(folder) == {"journal.jsonl": OTHER}


@pytest.mark.parametrize(
    ("address", "given", "refused"),
    [("evil:6379", [], True), ("evil:6379", ["--address", "own:6379"], False), ("auto", [], False)],
)
def test_a_cluster_that_only_the_bucket_names_is_not_joined(server, tmp_path, monkeypatch, address, given, refused):
    story = fuzz_journal.make_story(1)[:-1]
    story[0]["settings"] = {"seed": 0, "instruments": ["vn"], "options": {"address": address}}
    for number, line in enumerate(fuzz_journal.write_lines(story).splitlines(keepends=True)):
        server.objects[f"{RUN}journal/{number:09d}.jsonl"] = line
    del server.objects[f"{RUN}journal/{len(story):09d}.jsonl"]
    server.objects[RUN + "space.yaml"] = b"parameters: {filters: [4, 8]}\n"
    monkeypatch.chdir(tmp_path)
    arguments = parse_arguments(["--resume", "far", "--storage", storage(server), *given])
    if refused:
        with pytest.raises(UserError, match=r"names the cluster 'evil:6379', which anyone .* name it with --address"):
            resumed_run(arguments)
    else:
        begin = resumed_run(arguments)
        assert begin.options["address"] == (given[1] if given else address)
        begin.close()
    assert f"{RUN}journal/writer.json" not in server.objects
