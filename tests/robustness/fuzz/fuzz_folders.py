"""Fuzzing folders of recordings: names of every kind, links that loop or lead elsewhere, files that are none."""

import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

from fuzz_audio import make_sounds
from fuzz_bytes import Case, damage_tree, expect

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.data.recordings import read_folder

FOLDERS = ["01_Jupiter_vn_vc", "Elise", "Elise--take2", "02_Sonata_vn_vn", "١_Título_vn", "1_vn", "_vn", "--",
           "a\nb", "a\tb_vn",
           "\udcff_vn", "01_\udcff_vn_vc", "\u202e", "[/x]", "x" * 250, ".hidden", "01_A_vn", "Supplementary_Files",
           "01_Jupiter_vn_vx",
           "９_A_vn", "²_A_vn", "'; --", "$(true)", "%s", "{0}", "日本", "e\u0301", "\u00e9",
           "01_Jupiter_vn_vc "]  # fmt: skip
FILES = ["vn.wav", "vc.wav", "vc_1.wav", "vc_01.wav", "vc_2.wav", "vn_١.wav", "vn_.wav", "mix.wav", "mixture.wav",
         "AuSep_1_vn_01_Jupiter.wav",
         "AuSep_2_vc_01_Jupiter.wav", "AuSep_１_vn_01_Jupiter.wav", "AuSep_0_vn_x.wav",
         "AuSep_" + "9" * 200 + "_vn_x.wav",
         "AuMix_01_Jupiter_vn_vc.wav", "vn.WAV", "vn.flac", "vn.aiff", "vn\n.wav", "vn\udcff.wav", "violin.wav",
         "VN.wav", ".wav", ".vn.wav",
         "..wav", "vn.wav.wav", "notes.txt", "\u202evn.wav", "vn_1_2.wav", "x" * 240 + ".wav"]  # fmt: skip
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

    def make(self, rng: Random) -> Case:
        """[path, kind, what] of everything in the folder, as JSON."""
        tree: list[Any] = []
        if rng.random() < 0.6:
            tree += [["Elise--take1", "folder", 0], *([f"Elise--take1/{name}.wav", "file", 0] for name in ("vn", "vc"))]
        for _ in range(rng.randint(0, 2)):
            place = rng.choice(FOLDERS[:3] if rng.random() < 0.6 else FOLDERS)
            if rng.random() < 0.1:
                place = f"{rng.choice(FOLDERS)}/{place}"
            tree.append([place, "folder", 0])
            for name in rng.sample(FILES[:12] if rng.random() < 0.6 else FILES, rng.randint(0, 4)):
                if rng.random() < 0.12:
                    tree.append([f"{place}/{name}", "link", rng.choice(LINKS)])
                else:
                    kind = "folder" if rng.random() < 0.03 else "pipe" if rng.random() < 0.01 else "file"
                    tree.append([f"{place}/{name}", kind, rng.choice((0, 0, 0, 0, 1, 2, 3, 4, 5, 6))])
        if rng.random() < 0.1:
            tree.append([rng.choice(FOLDERS), "link", rng.choice(LINKS)])
        if rng.random() < 0.2:
            tree = damage_tree(rng, tree, [rng.choice(FOLDERS), "link", 0], ["x"])
        return {"tree.json": json.dumps(tree).encode()}

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
