"""Shards: every spectrogram row of every piece, in Arrow files that anyone with pyarrow can read.

A shard set is a folder named by its fingerprint: `manifest.json`, and one Arrow IPC file per piece with the columns
piece, title, clip, subset (bit i = player i), members, instruments, sound_seconds and spectrogram, a fixed-shape
tensor of float16 (time frame 128, frequency bin 128).
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sepsearch.errors import UserError
from sepsearch.examples import RowIndex
from sepsearch.files import cache_folder, file_sha256, new_folder, require_space
from sepsearch.recordings import Piece, Recordings, load_piece
from sepsearch.spectrogram import BINS, FRAMES, FrontEnd, compression_constant, count_clips, iterate_clips

if TYPE_CHECKING:
    import pyarrow as pa

    from sepsearch.takes import Survey

SCHEMA_VERSION = 1
FULL_PLAYERS = 5  # up to so many players every subset is a row; beyond, SAMPLED_SUBSETS of them (and their targets)
SAMPLED_SUBSETS = 31
ROW_BYTES = FRAMES * BINS * 2

Progress = Callable[[str, int, int], None]  # (what is being done, steps done, steps in all)


@dataclass(frozen=True)
class ShardSet:
    """A finished shard set on disk."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of the recordings' content and the front end's settings."""
        return str(self.manifest["fingerprint"])

    @property
    def front_end(self) -> FrontEnd:
        """The settings the rows were made with."""
        return FrontEnd(**self.manifest["front_end"])

    @property
    def constant(self) -> float:
        """c of log1p(c · a)."""
        return float(self.manifest["constant"])

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(piece["shard"]["rows"] for piece in self.manifest["pieces"])

    def tables(self) -> "list[pa.Table]":
        """One memory-mapped Arrow table per shard, in row order."""
        return [read_table(self.folder / piece["shard"]["file"]) for piece in self.manifest["pieces"]]

    def index(self) -> RowIndex:
        """Where every row comes from."""
        pieces = self.manifest["pieces"]
        tables = self.tables()
        column = {name: [t[name].to_numpy() for t in tables] for name in ("clip", "subset", "sound_seconds")}
        return RowIndex(
            names=tuple(piece["name"] for piece in pieces),
            titles=tuple(piece["title"] for piece in pieces),
            players=tuple(tuple(stem["instrument"] for stem in piece["stems"]) for piece in pieces),
            piece=np.repeat(np.arange(len(pieces)), [len(table) for table in tables]),
            clip=np.concatenate(column["clip"]).astype(np.int64),
            subset=np.concatenate(column["subset"]),
            sound=np.concatenate(column["sound_seconds"]),
        )


def read_table(path: Path) -> "pa.Table":
    """A shard as a memory-mapped table."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def spectrograms(table: "pa.Table") -> NDArray[np.float16]:
    """The spectrogram column of a shard as a read-only view, float16 (row, frame, bin)."""
    return table["spectrogram"].chunk(0).to_numpy_ndarray()


def open_shards(folder: Path) -> ShardSet:
    """A shard set, after checking every file against its checksum.

    Raises:
        UserError: the manifest cannot be read or is of another version, or a shard is missing or damaged.
    """
    path = folder / "manifest.json"
    mend = f"delete {folder} and run again: the shards are built anew"
    try:
        manifest = json.loads(path.read_text())
        version = manifest["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a readable manifest ({type(error).__name__}): {mend}") from error
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}: {mend}")

    def check(piece: dict[str, Any]) -> None:
        shard = folder / piece["shard"]["file"]
        if not shard.is_file():
            raise UserError(f"{shard}: missing, expected a shard of {piece['shard']['rows']} rows: {mend}")
        if (found := file_sha256(shard)) != piece["shard"]["sha256"]:
            raise UserError(f"{shard}: checksum is {found[:12]}…, expected {piece['shard']['sha256'][:12]}…: {mend}")

    _in_threads(check, manifest["pieces"], lambda done: None)
    return ShardSet(folder, manifest)


def prepare_shards(recordings: Recordings, front_end: FrontEnd, progress: Progress) -> ShardSet:
    """The shard set of these recordings under this front end: opened where it is there, otherwise built.

    Raises:
        UserError: unreadable audio, a damaged shard set, no space on the disk.
    """
    from sepsearch.takes import survey

    stems = [(piece.name, stem) for piece in recordings.pieces for stem in piece.stems]
    hashes = _in_threads(
        lambda item: file_sha256(item[1].path), stems, lambda done: progress("hashing", done, len(stems))
    )
    content = [[name, stem.name, digest] for (name, stem), digest in zip(stems, hashes, strict=True)]
    fingerprint = _fingerprint(recordings, front_end, content)
    folder = cache_folder() / "shards" / fingerprint
    if not folder.exists():
        facts = survey(recordings, progress=lambda done, total: progress("surveying", done, total))
        _build(recordings, facts, front_end, fingerprint, folder, progress)
    return open_shards(folder)


def _fingerprint(recordings: Recordings, front_end: FrontEnd, content: list[list[str]]) -> str:
    facts = {
        "schema_version": SCHEMA_VERSION,
        "front_end": dataclasses.asdict(front_end),
        "subsets": [FULL_PLAYERS, SAMPLED_SUBSETS],
        "titles": {piece.name: piece.title for piece in recordings.pieces},
        "content": content,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _build(
    recordings: Recordings, facts: "Survey", front_end: FrontEnd, fingerprint: str, folder: Path, progress: Progress
) -> None:
    """Write a shard set; nothing is left behind when that fails."""
    power = [(stem.rms**2 * stem.seconds, stem.seconds) for stem in facts.stems]
    rms = (sum(p for p, _ in power) / sum(s for _, s in power)) ** 0.5
    constant = compression_constant(rms)
    rows = sum(
        count_clips(front_end, max(s.samples for s in piece.stems)) * len(piece_subsets(piece))
        for piece in recordings.pieces
    )
    require_space(folder, rows * ROW_BYTES * 1.02, f"a shard set of {rows:,} rows")
    pieces = list(enumerate(recordings.pieces))
    with new_folder(folder) as temporary:

        def write(item: tuple[int, Piece]) -> dict[str, Any]:
            return _write_piece(item[1], front_end, constant, rms, temporary / f"shard-{item[0]:04d}.arrow")

        shards = _in_threads(write, pieces, lambda done: progress("transforming", done, len(pieces)))
        manifest = _manifest(recordings, facts, front_end, shards)
        manifest |= {"fingerprint": fingerprint, "constant": constant, "rms": rms}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))


def _manifest(
    recordings: Recordings, facts: "Survey", front_end: FrontEnd, shards: list[dict[str, Any]]
) -> dict[str, Any]:
    stems = {(stem.piece, stem.stem): dataclasses.asdict(stem) for stem in facts.stems}
    return {
        "schema_version": SCHEMA_VERSION,
        "source": str(recordings.folder),
        "front_end": dataclasses.asdict(front_end),
        "pieces": [
            {
                "name": piece.name,
                "title": piece.title,
                "seconds": piece.seconds,
                "stems": [stems[piece.name, stem.name] for stem in piece.stems],
                "mixture": dataclasses.asdict(check),
                "shard": shard,
            }
            for piece, check, shard in zip(recordings.pieces, facts.mixtures, shards, strict=True)
        ],
        "shared_takes": [dataclasses.asdict(take) for take in facts.shared],
        "title_groups": [list(group) for group in facts.groups],
        "notes": list(recordings.notes),
    }


def piece_subsets(piece: Piece) -> tuple[int, ...]:
    """The subsets of players that become rows, as bit masks in counting order.

    All of them up to FULL_PLAYERS players. Beyond: every single player, everyone, and SAMPLED_SUBSETS drawn from the
    piece's name; with each also its members of every one instrument, so that a target is always a row.
    """
    players = len(piece.stems)
    if players <= FULL_PLAYERS:
        return tuple(range(1, 2**players))
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(piece.name.encode()).digest()[:8], "big"))
    chosen = {1 << player for player in range(players)} | {2**players - 1}
    chosen |= {int(mask) for mask in rng.integers(1, 2**players, size=SAMPLED_SUBSETS)}
    own: dict[str, int] = {}
    for player, stem in enumerate(piece.stems):
        own[stem.instrument] = own.get(stem.instrument, 0) | 1 << player
    return tuple(sorted(chosen | {mask & part for mask in chosen for part in own.values() if mask & part}))


def _write_piece(piece: Piece, front_end: FrontEnd, constant: float, rms: float, path: Path) -> dict[str, Any]:
    """Write one shard; returns its file name, rows, bytes and checksum."""
    import pyarrow as pa

    subsets = piece_subsets(piece)
    members = [[stem for i, stem in enumerate(piece.stems) if subset >> i & 1] for subset in subsets]
    clips, tensors, sound = [], [], []
    # A frame sounds when its loudest band is not 40 dB below the level of the recordings.
    threshold = float(np.log1p(constant * rms / 100))
    for clip, rows in iterate_clips(front_end, load_piece(piece), subsets, constant):
        tensors.append(rows.numpy())
        clips += [clip] * len(subsets)
        sound.append((rows.amax(dim=2) > threshold).float().mean(dim=1).numpy() * front_end.clip_seconds)
    count = len(tensors)
    table = pa.table(
        {
            "piece": pa.array([piece.name] * len(clips)),
            "title": pa.array([piece.title] * len(clips)),
            "clip": pa.array(clips, pa.int32()),
            "subset": pa.array(list(subsets) * count, pa.int64()),
            "members": pa.array([[stem.name for stem in group] for group in members] * count),
            "instruments": pa.array([[stem.instrument for stem in group] for group in members] * count),
            "sound_seconds": pa.array(np.concatenate(sound), pa.float32()),
            "spectrogram": pa.FixedShapeTensorArray.from_numpy_ndarray(
                np.concatenate(tensors), dim_names=["frame", "bin"]
            ),
        }
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return {"file": path.name, "rows": len(table), "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _in_threads(work: Callable[[Any], Any], items: Iterable[Any], advance: Callable[[int], None]) -> list[Any]:
    """Results of `work` for every item in order, on all cores; the transforms let go of the interpreter's lock."""
    import torch

    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        advance(done)

    with ThreadPoolExecutor(cpu_count() or 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(work, item) for item in items]
        for future in futures:
            future.add_done_callback(count)
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
