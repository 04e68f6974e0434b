import errno
import json
import os
import shutil
import subprocess
import unicodedata
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from recording_fixtures import write_plain_tree, write_urmp_tree, write_wav

from sepsearch.audio.spectrogram import FrontEnd, all_subsets, clip_spectra, subset_rows
from sepsearch.data import shards as shards_module
from sepsearch.data.dataset import instrument_pairs
from sepsearch.data.recordings import Recordings, load_piece, read_folder
from sepsearch.data.shard_writer import piece_subsets
from sepsearch.data.shards import ShardSet, open_shards, prepare_shards, spectrograms
from sepsearch.data.splits import split_titles
from sepsearch.utils.errors import UserError

FRONT_END = FrontEnd(clip_seconds=1.0)
TRIO = "12_Spring_vn_vn_vc"


def silent(stage: str, done: int, total: int) -> None:
    pass


def prepare(folder: Path, front_end: FrontEnd = FRONT_END) -> ShardSet:
    return prepare_shards(read_folder(folder), front_end, silent)


@pytest.fixture
def shards(tree: Path) -> ShardSet:
    """The miniature tree's shard set, built by the first test that asks for it and read by all."""
    return prepare(tree)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone; its shard sets lie in `cache / "shards"`."""
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def duets(tmp_path: Path) -> Path:
    return write_urmp_tree(tmp_path / "duets", [("01_Jupiter_vn_vc", 1.0), ("03_Dance_fl_cl", 1.0)])


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of all files, by name."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def assert_nothing_written(cache: Path) -> None:
    assert [path for path in cache.rglob("*") if path != cache / "shards"] == []


def assert_refused(folder: Path, *words: object) -> None:
    """Opening the shards is refused in one line that holds all the words and says what to do."""
    with pytest.raises(UserError) as caught:
        open_shards(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in (*words, f"delete {folder} and run again"):
        assert str(word) in message


# What a shard set holds.


def test_shards_are_readable_with_pyarrow_alone(shards: ShardSet) -> None:
    manifest = json.loads((shards.folder / "manifest.json").read_text())
    for piece in manifest["pieces"]:
        with pa.memory_map(str(shards.folder / piece["shard"]["file"])) as source:
            table = pa.ipc.open_file(source).read_all()
        assert table.column_names == [
            "piece",
            "title",
            "clip",
            "subset",
            "members",
            "instruments",
            "sound_seconds",
            "spectrogram",
        ]
        tensor = table.schema.field("spectrogram").type
        assert isinstance(tensor, pa.FixedShapeTensorType)
        assert (tensor.value_type, tensor.shape, tensor.dim_names) == (pa.float16(), [128, 128], ["frame", "bin"])
        assert set(table["piece"].to_pylist()) == {piece["name"]}
        assert len(table) == piece["shard"]["rows"]


def test_members_and_instruments_of_a_row_are_those_of_its_subset(shards: ShardSet) -> None:
    table = next(table for table in shards.tables() if table["piece"][0].as_py() == TRIO)
    rows = {row["subset"]: row for row in table.drop_columns("spectrogram").to_pylist()}
    assert rows[0b110]["members"] == ["2_vn", "3_vc"]
    assert rows[0b011]["instruments"] == ["vn", "vn"]


def test_every_clip_has_a_row_for_every_subset_and_the_index_tells_them(shards: ShardSet, tree: Path) -> None:
    index = shards.index()
    assert index.names == tuple(piece.name for piece in read_folder(tree).pieces)
    for number, (players, clips) in enumerate(zip(index.players, index.clips_of_piece(), strict=True)):
        here = index.piece == number
        assert index.subset[here].tolist() == list(all_subsets(len(players))) * clips
        assert index.clip[here].tolist() == np.repeat(np.arange(clips), 2 ** len(players) - 1).tolist()
    assert index.clips_of_piece().tolist() == [2, 2, 3, 2, 2, 2]  # half a clip at the end is one
    assert len(index.piece) == shards.rows == sum(len(table) for table in shards.tables())


def test_a_row_is_the_spectrogram_of_the_mixed_waveform(shards: ShardSet, tree: Path) -> None:
    number, piece = next(item for item in enumerate(read_folder(tree).pieces) if item[1].name == TRIO)
    stems = load_piece(piece)
    rows = spectrograms(shards.tables()[number])
    index = shards.index()
    for clip in range(2):
        for subset in all_subsets(3):
            mixture = sum(stems[i] for i in range(3) if subset >> i & 1)[None]
            wanted = subset_rows(
                FRONT_END, clip_spectra(FRONT_END, mixture, int(clip) * FRONT_END.clip_samples), (1,), shards.constant
            )[0]
            (row,) = np.flatnonzero((index.clip == clip) & (index.subset == subset) & (index.piece == number))
            np.testing.assert_allclose(rows[row - np.argmax(index.piece == number)], wanted, atol=4e-3)


def test_sound_seconds_count_the_time_in_which_something_sounds(cache: Path, tmp_path: Path) -> None:
    time = np.arange(2 * 48_000) / 48_000
    write_wav(tmp_path / "d" / "p" / "vn.wav", np.where(time < 0.5, 0.2 * np.sin(2 * np.pi * 500 * time), 0))
    write_wav(tmp_path / "d" / "p" / "vc.wav", np.where(time < 1.5, 0.2 * np.sin(2 * np.pi * 200 * time), 0))
    index = prepare(tmp_path / "d").index()
    np.testing.assert_allclose(index.sound, [1, 0.5, 1, 0.5, 0, 0.5], atol=0.06)  # subsets vc, vn, both of two clips


def test_of_six_players_sampled_subsets_are_rows_and_every_target_is_among_them(cache: Path, tmp_path: Path) -> None:
    write_plain_tree(tmp_path / "d", {"p": ["vn_1", "vn_2", "va", "vc_1", "vc_2", "fl"]}, 1.0)
    shards = prepare(tmp_path / "d")
    index = shards.index()
    assert 31 <= len(index.subset) < 63
    assert {1 << player for player in range(6)} | {63} <= set(index.subset.tolist())
    for code in index.instruments:
        own = sum(1 << i for i, played in enumerate(index.players[0]) if played == code)
        pairs = instrument_pairs(index, code)
        assert len(pairs) == np.count_nonzero(index.subset & own)
        assert (index.subset[pairs.target] == index.subset[pairs.mixture] & own).all()


def test_the_sampled_subsets_of_a_piece_are_always_the_same(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"p": ["vn_1", "vn_2", "va", "vc_1", "vc_2", "db", "fl"]}, 0.5)
    (piece,) = read_folder(tmp_path).pieces
    assert piece_subsets(piece) == piece_subsets(piece)
    assert len(piece_subsets(piece)) < 127


# Reading.


def test_reading_a_shard_copies_nothing_and_cannot_be_written_to(shards: ShardSet) -> None:
    before = pa.total_allocated_bytes()
    table = shards.tables()[0]
    rows = spectrograms(table)
    assert pa.total_allocated_bytes() - before < rows.nbytes / 10
    (buffer,) = [b for b in table["spectrogram"].chunk(0).storage.flatten().buffers() if b is not None]
    assert buffer.address <= rows.ctypes.data < buffer.address + buffer.size
    assert any(address <= rows.ctypes.data < end for address, end in mappings(shards.folder))
    assert not rows.flags.owndata
    assert not rows.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0, 0] = 1


def mappings(folder: Path) -> list[tuple[int, int]]:
    """Where files of the folder are mapped into the memory of this process."""
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    ranges = [line.split()[0].split("-") for line in lines]
    return [(int(begin, 16), int(end, 16)) for begin, end in ranges]


# The fingerprint.


def test_the_same_recordings_and_front_end_are_not_built_twice(cache: Path, duets: Path) -> None:
    first = prepare(duets)
    before = content(first.folder)
    second = prepare(duets)
    assert (first.built, second.built) == (True, False)
    assert second.manifest == first.manifest
    assert content(second.folder) == before


def test_the_same_recordings_in_another_folder_have_the_same_fingerprint(
    cache: Path, duets: Path, tmp_path: Path
) -> None:
    first = prepare(duets)
    moved = prepare(Path(shutil.move(duets, tmp_path / "elsewhere")))
    assert (moved.fingerprint, moved.built) == (first.fingerprint, False)


def test_another_front_end_has_another_fingerprint(cache: Path, duets: Path) -> None:
    first, second = prepare(duets), prepare(duets, FrontEnd(clip_seconds=1.0, axis="log", low_hz=30))
    assert second.built
    assert second.fingerprint != first.fingerprint
    assert second.front_end.axis == "log"


@pytest.mark.parametrize("name", ["AuSep_2_vc_01_Jupiter.wav", "AuMix_01_Jupiter_vn_vc.wav"])
def test_a_changed_sample_has_another_fingerprint(cache: Path, duets: Path, name: str) -> None:
    first = prepare(duets)
    path = duets / "01_Jupiter_vn_vc" / name
    audio = soundfile.read(path, dtype="int32")[0]
    audio[30_000] += 256  # one least significant bit of 24
    write_wav(path, audio)
    second = prepare(duets)
    assert second.built
    assert second.fingerprint != first.fingerprint


def test_the_same_names_composed_otherwise_have_the_same_fingerprint_and_titles(cache: Path, tmp_path: Path) -> None:
    names = {"F\u00fcr \u00c9lise--take1": ["vn"], "Jupiter": ["vn", "vc"]}
    write_plain_tree(tmp_path / "a", names, 1.0)
    for name in names:
        shutil.copytree(tmp_path / "a" / name, tmp_path / "b" / unicodedata.normalize("NFD", name))
    first, second = prepare(tmp_path / "a"), prepare(tmp_path / "b")
    assert (second.fingerprint, second.built) == (first.fingerprint, False)
    assert [piece["title"] for piece in second.manifest["pieces"]] == ["F\u00fcr \u00c9lise", "Jupiter"]


def test_another_title_has_another_fingerprint(cache: Path, tmp_path: Path) -> None:
    write_plain_tree(tmp_path / "d", {"Elise": ["vn", "vc"]}, 1.0)
    first = prepare(tmp_path / "d")
    (tmp_path / "d" / "Elise").rename(tmp_path / "d" / "Louise")
    assert prepare(tmp_path / "d").fingerprint != first.fingerprint


def test_another_split_needs_no_other_shards(shards: ShardSet) -> None:
    before = content(shards.folder)
    facts = shards.index().title_facts()
    splits = [split_titles(facts, shards.manifest["title_groups"], seed) for seed in range(5)]
    assert len({split.test for split in splits}) > 1
    assert content(shards.folder) == before


def test_two_builds_have_the_same_bytes(duets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = []
    for name in "ab":
        monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / name))
        sets.append(prepare(duets))
    assert [shards.built for shards in sets] == [True, True]
    first, second = ({name: data for name, (data, _) in content(shards.folder).items()} for shards in sets)
    assert first == second


def test_every_file_is_hashed_once(cache: Path, duets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sepsearch.data import duplicates

    hashed: list[str] = []
    real = shards_module.file_sha256
    for module in (shards_module, duplicates):
        monkeypatch.setattr(module, "file_sha256", lambda path: hashed.append(path.name) or real(path))
    prepare(duets)
    recorded = [name for name in hashed if name.startswith("Au")]
    assert len(recorded) == len(set(recorded)) == 6


# Damaged shard sets.


@pytest.fixture
def damaged(shards: ShardSet, tmp_path: Path) -> Path:
    """A copy of the miniature tree's shard set, to be damaged."""
    return Path(shutil.copytree(shards.folder, tmp_path / "set"))


def test_a_damaged_shard_is_refused(damaged: Path) -> None:
    path = damaged / "shard-0001.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert_refused(damaged, path, "checksum is", "expected")


def test_a_missing_shard_is_refused(damaged: Path) -> None:
    (damaged / "shard-0002.arrow").unlink()
    assert_refused(damaged, damaged / "shard-0002.arrow", "missing, expected a shard of 9 rows")


def test_a_manifest_of_another_version_is_refused(damaged: Path) -> None:
    path = damaged / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    assert_refused(damaged, path, "schema version 99, expected 1")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "{}", "\xff\xfe"])
def test_an_unreadable_manifest_is_refused(damaged: Path, text: str) -> None:
    (damaged / "manifest.json").write_bytes(text.encode("latin-1"))
    assert_refused(damaged, damaged / "manifest.json", "not a readable manifest")


def test_a_manifest_that_lost_a_part_is_refused(damaged: Path) -> None:
    path = damaged / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["pieces"][0]["shard"]
    path.write_text(json.dumps(manifest))
    assert_refused(damaged, path, "checksum is", "expected")


def test_a_shard_set_without_a_manifest_is_refused(damaged: Path) -> None:
    (damaged / "manifest.json").unlink()
    assert_refused(damaged, damaged / "manifest.json", "not a readable manifest (FileNotFoundError)")


# Builds that fail.


def test_a_disk_without_space_is_refused_before_anything_is_written(
    cache: Path, duets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match=r"shard set of 6 rows needs 0 MB there, found 0 MB free: free some space"):
        prepare(duets)
    assert_nothing_written(cache)


def test_a_disk_that_fills_up_leaves_nothing_behind(
    tmp_path: Path, duets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        monkeypatch.setenv("SEPSEARCH_CACHE", str(disk))
        monkeypatch.setattr(shards_module, "require_space", lambda *arguments: None)  # another program took it since
        with pytest.raises(UserError, match="No space left on device: free some space there") as caught:
            prepare(duets)
        assert str(disk / "shards") in str(caught.value)
        assert_nothing_written(disk)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("failing", ["shard", "manifest"])
def test_a_write_that_fails_leaves_nothing_behind(
    cache: Path, duets: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shards_module, "write_shard" if failing == "shard" else "_manifest", fail)
    with pytest.raises(UserError, match="No space left on device: free some space there"):
        prepare(duets)
    assert_nothing_written(cache)


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_build_that_breaks_midway_leaves_nothing_behind(
    cache: Path, duets: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def tell(stage: str, done: int, total: int) -> None:
        if stage == "transforming" and done == 1:
            raise error

    with pytest.raises(type(error)):
        prepare_shards(read_folder(duets), FRONT_END, tell)
    assert_nothing_written(cache)


def test_audio_that_turns_bad_while_shards_are_written_is_the_recordings_error(
    cache: Path, duets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = read_folder(duets)
    stem = recordings.pieces[1].stems[0]

    def spoil(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("transforming", 0):
            write_wav(stem.path, np.full(stem.frames, np.nan), subtype="FLOAT")

    with pytest.raises(UserError, match=rf"{stem.path}: expected finite samples, found nan at second 0\.000"):
        prepare_shards(recordings, FRONT_END, spoil)
    assert_nothing_written(cache)


def test_a_stem_that_has_gone_is_a_user_error(cache: Path, duets: Path) -> None:
    recordings = read_folder(duets)
    recordings.pieces[0].stems[0].path.unlink()
    with pytest.raises(UserError, match="No such file or directory"):
        prepare_shards(recordings, FRONT_END, silent)
    assert_nothing_written(cache)


def test_two_builds_at_once_end_in_one_good_set(cache: Path, duets: Path) -> None:
    recordings: Recordings = read_folder(duets)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: prepare_shards(recordings, FRONT_END, silent), range(2))
    assert first.manifest == second.manifest
    assert [path.name for path in (cache / "shards").iterdir()] == [first.fingerprint]
    assert open_shards(first.folder).rows == 6


def test_torch_computes_with_as_many_threads_after_a_build_as_before(cache: Path, duets: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        prepare(duets)
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_is_told_stage_by_stage_from_the_callers_thread(cache: Path, duets: Path) -> None:
    import threading

    told, threads = [], set()

    def tell(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        threads.add(threading.get_ident())

    prepare_shards(read_folder(duets), FRONT_END, tell)
    stages = [("hashing", 6), ("surveying", 2), ("transforming", 2)]
    assert told == [(stage, done, total) for stage, total in stages for done in range(total + 1)]
    assert threads == {threading.get_ident()}
