"""Fuzzing folders of recordings: names of every kind, links that loop or lead elsewhere, files that are none."""

import json
import os
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

from damages import Case, damaged_tree, expect, mostly
from fuzz_audio import make_sounds
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.data.recordings import read_folder

FOLDERS = [
    "01_Jupiter_vn_vc",
    "Elise",
    "Elise--take2",
    "02_Sonata_vn_vn",
    "١_Título_vn",
    "1_vn",
    "_vn",
    "--",
    "a\nb",
    "a\tb_vn",
    "\udcff_vn",
    "01_\udcff_vn_vc",
    "\u202e",
    "[/x]",
    "x" * 250,
    ".hidden",
    "01_A_vn",
    "Supplementary_Files",
    "01_Jupiter_vn_vx",
    "９_A_vn",
    "²_A_vn",
    "'; --",
    "$(true)",
    "%s",
    "{0}",
    "日本",
    "e\u0301",
    "\u00e9",
    "01_Jupiter_vn_vc ",
]
FILES = [
    "vn.wav",
    "vc.wav",
    "vc_1.wav",
    "vc_01.wav",
    "vc_2.wav",
    "vn_١.wav",
    "vn_.wav",
    "mix.wav",
    "mixture.wav",
    "AuSep_1_vn_01_Jupiter.wav",
    "AuSep_2_vc_01_Jupiter.wav",
    "AuSep_１_vn_01_Jupiter.wav",
    "AuSep_0_vn_x.wav",
    "AuSep_" + "9" * 200 + "_vn_x.wav",
    "AuMix_01_Jupiter_vn_vc.wav",
    "vn.WAV",
    "vn.flac",
    "vn.aiff",
    "vn\n.wav",
    "vn\udcff.wav",
    "violin.wav",
    "VN.wav",
    ".wav",
    ".vn.wav",
    "..wav",
    "vn.wav.wav",
    "notes.txt",
    "\u202evn.wav",
    "vn_1_2.wav",
    "x" * 240 + ".wav",
]
LINKS = [
    "vn.wav",
    "..",
    ".",
    "/dev/zero",
    "/dev/null",
    "nowhere",
    "/etc/passwd",
    "../outside/vn.wav",
    "Elise",
    "vc.wav",
]


class Target:
    """`sepsearch.data.recordings.read_folder`: an error, or pieces whose names and files are what is there."""

    typed = False

    def __init__(self, folder: Path):
        self.data = folder / "data"
        sounds = [data for name, data in make_sounds().items() if name.endswith(".wav")][:4]
        self.contents = [*sounds, b"", b"RIFF", b"no audio"]
        (folder / "outside").mkdir()
        (folder / "outside" / "vn.wav").write_bytes(sounds[0])

    def cases(self) -> SearchStrategy[Case]:
        """[path, kind, what] of everything in the folder, as JSON."""
        take = [["Elise--take1", "folder", 0], *([f"Elise--take1/{name}.wav", "file", 0] for name in ("vn", "vc"))]
        link = st.sampled_from(LINKS).map(lambda to: ["link", to])
        file = st.sampled_from([0] * 4 + list(range(1, len(self.contents)))).map(lambda number: ["file", number])
        content = mostly(file, st.one_of(link, st.sampled_from([["folder", 0], ["pipe", 0]])), 9)
        names = mostly(st.sampled_from(FILES[:12]), st.sampled_from(FILES), 1)

        @st.composite
        def piece(draw: Any) -> list[Any]:
            place = draw(mostly(st.sampled_from(FOLDERS[:3]), st.sampled_from(FOLDERS), 1))
            if draw(mostly(st.just(False), st.just(True), 9)):
                place = f"{draw(st.sampled_from(FOLDERS))}/{place}"
            files = draw(st.dictionaries(names, content, max_size=4))
            return [[place, "folder", 0], *([f"{place}/{name}", *what] for name, what in files.items())]

        linked = st.tuples(st.sampled_from(FOLDERS), link).map(lambda found: [[found[0], *found[1]]])
        parts = st.tuples(st.sampled_from([[], take]), mostly(st.just([]), linked, 9), st.lists(piece(), max_size=2))
        trees = parts.map(lambda found: [*found[0], *found[1], *chain.from_iterable(found[2])])
        odd = st.sampled_from(FOLDERS).map(lambda name: [name, "link", 0])
        damages = st.tuples(trees, odd).flatmap(lambda found: damaged_tree(found[0], [found[1]], ["x"]))
        return mostly(trees, damages, 4).map(lambda tree: {"tree.json": json.dumps(tree).encode()})

    def check(self, case: Case) -> bool:
        """Build the folder and read it; raises `Wrong` for what is not there."""
        self.data.mkdir()
        try:
            self._build(json.loads(case["tree.json"] or b"[]"))
            recordings = read_folder(self.data)
            names = [piece.name for piece in recordings.pieces]
            expect(names == sorted(set(names)), "pieces that are not sorted or not unique")
            for piece in recordings.pieces:
                expect((piece.name + piece.title).isprintable() and bool(piece.title), "an odd name")
                for number, stem in enumerate(piece.stems, 1):
                    expect(stem.number == number and stem.instrument in INSTRUMENTS, f"stem {stem}")
                    expect(
                        stem.path.is_relative_to(self.data) and ".." not in stem.path.parts, f"{stem.path} is outside"
                    )
                    expect(
                        stem.path.is_file() and stem.path.name in os.listdir(stem.path.parent),
                        "a file that is not there",
                    )
            for note in recordings.notes:
                expect(note.isprintable(), "an odd note")
        finally:
            shutil.rmtree(self.data)
        return True

    def _build(self, tree: Any) -> None:
        """Make all that can be made; a damaged tree names things twice, or nothing at all."""
        for item in tree if isinstance(tree, list) else []:
            try:
                place, kind, what = item
                path = Path(os.path.normpath(f"{self.data}/{place}"))
                if not path.is_relative_to(self.data):
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                if kind == "folder":
                    path.mkdir(exist_ok=True)
                elif kind == "pipe":
                    os.mkfifo(path)
                elif kind == "link":
                    path.symlink_to(what)
                elif not path.is_symlink():
                    path.write_bytes(self.contents[what])
            except (OSError, ValueError, TypeError, IndexError):
                continue
