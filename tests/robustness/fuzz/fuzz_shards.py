"""Fuzzing shard sets: files cut, swapped, doubled, bits flipped; manifests that somebody has made fit."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from damages import Case, as_json, damaged, damaged_tree, expect, flipped, repeated
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.recordings import read_folder
from sepsearch.data.shards import ShardSet, open_shards, prepare_shards, spectrograms

NAMES = [
    "../manifest.json",
    "/etc/passwd",
    "shard-0000.arrow",
    "shard-0001.arrow",
    "shard-0000.arrow\0",
    "shard-0000.arrow\n",
    "..",
    "",
    "shard-" + "0" * 300 + ".arrow",
    "./shard-0000.arrow",
    1,
    2,
    0,
    -1,
    10**30,
    0.5,
    1e308,
    float("nan"),
    "vn",
    "x",
    None,
    [],
    {},
    True,
    "mel",
    "log",
    256,
    65536,
    1.0,
    60.0,
]


def build(folder: Path) -> ShardSet:
    """A shard set of two pieces, four rows."""
    import soundfile

    rng = np.random.default_rng(0)
    for name, players in (("a", ("vn", "vc")), ("b", ("fl",))):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
        for player in players:
            sound = rng.uniform(-0.3, 0.3, 24_000)
            soundfile.write(folder / "data" / name / f"{player}.wav", sound, 48_000, subtype="PCM_24")
    return prepare_shards(read_folder(folder / "data"), FrontEnd(clip_seconds=1.0), lambda *_: None)


def reseal(tree: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the checksum that fits."""
    facts = {key: value for key, value in tree.items() if key != "sha256"}
    return facts | {"sha256": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}


def read_all(shards: ShardSet) -> list[Any]:
    """All numbers and names that a search takes from a shard set."""
    index = shards.index()
    arrays = [index.piece, index.clip, index.subset, index.sound, index.clips_of_piece()]
    arrays += [spectrograms(table) for table in shards.tables()]
    facts = (index.names, index.titles, index.players, shards.rows, shards.constant, shards.front_end)
    return [facts, index.title_facts(), *[np.array(array) for array in arrays]]


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two shard sets are the same in all that is read."""
    return one[:2] == other[:2] and len(one) == len(other) and all(map(np.array_equal, one[2:], other[2:]))


class Target:
    """`sepsearch.data.shards.open_shards`: what it accepts holds the rows that were written, to the last bit."""

    typed = False

    def __init__(self, folder: Path):
        self.shards = build(folder)
        self.folder = self.shards.folder
        self.files = {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}
        self.manifest = json.loads(self.files["manifest.json"])
        self.wanted = read_all(self.shards)

    def cases(self) -> SearchStrategy[Case]:
        """The files that differ; a fifth of them with checksums that fit."""
        trees = repeated(lambda tree: damaged_tree(tree, NAMES), self.manifest, 2)
        fit = trees.map(lambda tree: {"manifest.json": as_json(tree, reseal)})
        unfit = damaged_tree(self.manifest).map(lambda tree: {"manifest.json": as_json(tree)})
        one, other = (self.files[f"shard-000{number}.arrow"] for number in (0, 1))
        swapped = st.just({"shard-0000.arrow": other, "shard-0001.arrow": one})
        names, contents = st.sampled_from(sorted(self.files)), st.sampled_from(list(self.files.values()))
        moved = st.tuples(names, st.one_of(st.none(), contents)).map(lambda found: dict([found]))

        def damages(name: str) -> SearchStrategy[Case]:
            data = self.files[name]
            changed = st.one_of(flipped(data, 2_000), flipped(data), damaged(data))
            return changed.map(lambda found: {name: found})

        alone = names.flatmap(damages)
        resealed = st.sampled_from(["shard-0000.arrow", "shard-0001.arrow"]).flatmap(self._resealed)
        return st.one_of(fit, resealed, unfit, moved, swapped, *[alone] * 6)

    def _resealed(self, name: str) -> SearchStrategy[Case]:
        """A damaged shard whose checksum somebody has put into the manifest."""
        data = self.files[name]
        footer = flipped(data[-600:]).map(lambda end: data[:-600] + end)  # Arrow's

        def with_manifest(changed: bytes) -> Case:
            tree = json.loads(self.files["manifest.json"])
            for piece in tree["pieces"]:
                if piece["shard"]["file"] == name:
                    piece["shard"] |= {"sha256": hashlib.sha256(changed).hexdigest(), "bytes": len(changed)}
            return {name: changed, "manifest.json": as_json(tree, reseal)}

        return st.one_of(damaged(data), flipped(data, 2_000), footer).map(with_manifest)

    def check(self, case: Case) -> bool:
        """Open the set; raises `Wrong` if it is accepted and holds anything else, unless somebody made it fit."""
        made_to_fit = self._fits(case.get("manifest.json") or b"")
        try:
            for name, data in case.items():
                if data is None:
                    (self.folder / name).unlink()
                else:
                    (self.folder / name).write_bytes(data)
            found = read_all(open_shards(self.folder))
        finally:
            for name in case:
                (self.folder / name).write_bytes(self.files[name])
        expect(made_to_fit or same(found, self.wanted), "other rows than were written")
        return True

    def _fits(self, text: bytes) -> bool:
        """Whether a manifest differs from the one that was written and has a checksum that fits."""
        try:
            tree = json.loads(text)
            return bool(tree != self.manifest and tree["sha256"] == reseal(tree)["sha256"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return False
