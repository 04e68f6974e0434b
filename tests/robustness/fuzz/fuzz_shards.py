"""Fuzzing shard sets: files cut, swapped, doubled, bits flipped; manifests that somebody has made fit."""

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_bytes import Case, damage, damage_tree, dump_json, expect, flip_bit

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.recordings import read_folder
from sepsearch.data.shards import ShardSet, open_shards, prepare_shards, spectrograms

NAMES = ["../manifest.json", "/etc/passwd", "shard-0000.arrow", "shard-0001.arrow", "shard-0000.arrow\0",
         "shard-0000.arrow\n", "..", "",
         "shard-" + "0" * 300 + ".arrow", "./shard-0000.arrow", 1, 2, 0, -1, 10**30, 0.5, 1e308, float("nan"), "vn",
         "x", None, [], {},
         True, "mel", "log", 256, 65536, 1.0, 60.0]  # fmt: skip


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

    def make(self, rng: Random) -> Case:
        """The files that differ; a tenth of them with checksums that fit."""
        kind = rng.random()
        name = rng.choice(sorted(self.files))
        if kind < 0.08:
            tree = self.manifest
            for _ in range(rng.choice((1, 1, 2))):
                tree = damage_tree(rng, tree, NAMES)
            return {"manifest.json": dump_json(rng, tree, reseal)}
        if kind < 0.13:
            return self._resealed(rng)
        if kind < 0.2:
            return {"manifest.json": dump_json(rng, damage_tree(rng, self.manifest))}
        if kind < 0.25:
            return {name: self.files[rng.choice(sorted(self.files))]}
        if kind < 0.28:
            return {
                "shard-0000.arrow": self.files["shard-0001.arrow"],
                "shard-0001.arrow": self.files["shard-0000.arrow"],
            }
        if kind < 0.3:
            return {name: None}
        if kind < 0.7:
            return {name: flip_bit(rng, self.files[name], rng.choice((2_000, None)))}
        return {name: damage(rng, self.files[name])}

    def _resealed(self, rng: Random) -> Case:
        """A damaged shard whose checksum somebody has put into the manifest."""
        name = rng.choice([name for name in self.files if name.endswith(".arrow")])
        data = damage(rng, self.files[name]) if rng.random() < 0.3 else flip_bit(rng, self.files[name], 2_000)
        if rng.random() < 0.5:
            data = self.files[name][:-600] + flip_bit(rng, self.files[name][-600:])  # Arrow's footer
        tree = json.loads(self.files["manifest.json"])
        for piece in tree["pieces"]:
            if piece["shard"]["file"] == name:
                piece["shard"] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        return {name: data, "manifest.json": dump_json(rng, tree, reseal)}

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
