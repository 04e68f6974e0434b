"""Shard sets, damaged or made to fit: the rows that were written, or an error."""

import json
import shutil

import pytest
from hostile import few, fuzz_shards, fuzz_target, refusal, verdicts
from hypothesis import given
from hypothesis import strategies as st

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.recordings import read_folder
from sepsearch.data.shards import open_shards, prepare_shards


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A shard set of four rows."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hostile")
        patch.setenv("SEPSEARCH_CACHE", str(folder / "cache"))
        yield fuzz_shards.build(folder)


@pytest.fixture
def copied(small, tmp_path):
    return shutil.copytree(small.folder, tmp_path / small.folder.name)


def change(folder, edit):
    """Edit a manifest and give it the checksum that fits."""
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(fuzz_shards.reseal(manifest)))


@few
@given(
    name=st.sampled_from(["manifest.json", "shard-0000.arrow", "shard-0001.arrow"]),
    share=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_anywhere_is_found(small, name, share, bit):
    path = small.folder / name
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[int(share * len(data))] ^= 1 << bit
    path.write_bytes(flipped)
    try:
        assert name in refusal(lambda: open_shards(small.folder))
    finally:
        path.write_bytes(data)


def test_shards_that_changed_places_are_refused(copied):
    one, other = copied / "shard-0000.arrow", copied / "shard-0001.arrow"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    assert "checksum" in refusal(lambda: open_shards(copied))


@pytest.mark.parametrize(
    "name", ["../outside.arrow", "/etc/passwd", "..", "", "shard-0000.arrow\0", "a/shard-0000.arrow", 3]
)
def test_a_shard_outside_the_folder_is_refused_though_its_checksum_fits(copied, name):
    change(copied, lambda manifest: manifest["pieces"][0]["shard"].update(file=name))
    assert "pieces: 0: shard: file" in refusal(lambda: open_shards(copied))


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest.pop("pieces"),
        lambda manifest: manifest.update(pieces=[]),
        lambda manifest: manifest.update(constant=float("nan")),
        lambda manifest: manifest.update(title_groups=[["a"], ["a", "b"]]),
        lambda manifest: manifest["front_end"].update(window=10**400),
        lambda manifest: manifest["pieces"][0]["shard"].update(rows=99),
        lambda manifest: manifest["pieces"][0]["shard"].update(clips=7),
        lambda manifest: manifest["pieces"][0]["stems"].pop(),
        lambda manifest: manifest["pieces"][0]["stems"][0].update(instrument="kazoo"),
        lambda manifest: manifest["pieces"].reverse() or manifest["pieces"][0]["shard"].update(file="shard-0000.arrow"),
    ],
)
def test_a_manifest_that_somebody_made_fit_is_checked_against_the_rows(copied, edit):
    change(copied, edit)
    assert "run again" in refusal(lambda: open_shards(copied))


def test_a_manifest_of_brackets_is_refused(copied):
    (copied / "manifest.json").write_text("[" * 100_000)
    assert "RecursionError" in refusal(lambda: open_shards(copied))


def test_shards_of_other_recordings_under_this_fingerprint_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    shards = fuzz_shards.build(tmp_path)
    shards.folder.rename(shards.folder.parent / "other")
    (tmp_path / "data" / "a").rename(tmp_path / "data" / "c")
    recordings = read_folder(tmp_path / "data")
    front_end = FrontEnd(clip_seconds=1.0)
    own = prepare_shards(recordings, front_end, lambda *_: None)
    shutil.rmtree(own.folder)
    (shards.folder.parent / "other").rename(own.folder)
    assert "made of other recordings" in refusal(lambda: prepare_shards(recordings, front_end, lambda *_: None))


def test_the_fuzzers_shards_are_refused_or_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    with fuzz_target(fuzz_shards, tmp_path) as target:
        assert verdicts(target, 120) == {"accepted", "refused"}
