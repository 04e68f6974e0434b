"""Shards: every spectrogram row of every piece, in Arrow files.

A shard set is a folder named by its fingerprint: `manifest.json`, and one Arrow IPC file per piece with the columns
piece, title, clip, subset (bit i = player i), members, instruments, sound_seconds and spectrogram, a fixed-shape
tensor of float16 (time frame 128, frequency bin 128).
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sepsearch.audio.reading import unreadable
from sepsearch.audio.spectrogram import BINS, FRAMES, LEVEL, ROW_BYTES, SCALE, FrontEnd, compression_constant
from sepsearch.data.dataset import RowIndex
from sepsearch.data.manifest import MANIFEST, SCHEMA_VERSION, digest, read_manifest
from sepsearch.data.recordings import Piece, Recordings
from sepsearch.data.remote_shards import fetch_shards, publish_shards, shards_place
from sepsearch.data.shard_writer import FULL_PLAYERS, SAMPLED_SUBSETS, count_rows, write_shard
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.files import cache_folder, file_sha256, new_folder, require_space
from sepsearch.utils.progress import Steps, in_threads, one_torch_thread
from sepsearch.utils.storage import StorageFolder

if TYPE_CHECKING:
    import pyarrow as pa

    from sepsearch.data.duplicates import Survey


Progress = Callable[[str, int, int], None]  # (what is being done, steps done, steps in all)


@dataclass(frozen=True)
class ShardSet:
    """A finished shard set on disk."""

    folder: Path
    manifest: dict[str, Any]
    built: bool = False  # just now, not found

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
        """c of the rows' SCALE · log1p(c · a)."""
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
    import pyarrow as pa

    advice = f"delete {folder} and run again: the shards are built anew"
    manifest = read_manifest(folder / MANIFEST, advice)

    def check(piece: dict[str, Any]) -> None:
        shard = folder / piece["shard"]["file"]
        if not shard.is_file():
            raise UserError(f"{shard}: missing, expected a shard of {piece['shard']['rows']} rows: {advice}")
        try:
            found = file_sha256(shard)
        except OSError as error:
            raise UserError(f"{shard}: cannot be read ({error.strerror or error}): {advice}") from error
        if found != piece["shard"]["sha256"]:
            raise UserError(f"{shard}: checksum is {found[:12]}…, expected {piece['shard']['sha256'][:12]}…: {advice}")
        try:
            problem = _check_table(read_table(shard), piece)
        except (pa.ArrowException, OSError, ValueError) as error:
            problem = one_line(error)
        if problem:
            raise UserError(f"{shard}: not a shard of this version: {problem}: {advice}")

    in_threads(check, manifest["pieces"])
    return ShardSet(folder, manifest)


def _check_table(table: "pa.Table", piece: dict[str, Any]) -> str:
    """What is wrong with a shard whose checksum fits, if anything: somebody, or another version, has made it."""
    import pyarrow as pa

    wanted = {
        "clip": pa.int32(),
        "subset": pa.int64(),
        "sound_seconds": pa.float32(),
        "spectrogram": pa.fixed_shape_tensor(pa.float16(), [FRAMES, BINS], dim_names=["frame", "bin"]),
    }
    facts = piece["shard"]
    for name, kind in wanted.items():
        if table.schema.names.count(name) != 1 or table.schema.field(name).type != kind:
            return f"no column {name} of type {kind}"
        if table[name].num_chunks != 1 or table[name].null_count:
            return f"column {name} is in parts or has gaps"
    table.validate()
    if len(table) != facts["rows"]:
        return f"{len(table)} rows, expected {facts['rows']}"
    clip, subset, sound = (table[name].to_numpy() for name in ("clip", "subset", "sound_seconds"))
    if not (clip.min() >= 0 and clip.max() == facts["clips"] - 1 and subset.min() > 0):
        return f"clips {clip.min()} to {clip.max()}, expected 0 to {facts['clips'] - 1}"
    if subset.max() >= 1 << len(piece["stems"]) or not np.isfinite(sound).all():
        return f"subset {subset.max()} of {len(piece['stems'])} players, or a time that is no number"
    return ""


def prepare_shards(
    recordings: Recordings, front_end: FrontEnd, progress: Progress, storage: StorageFolder | None = None
) -> ShardSet:
    """The shard set of these recordings under this front end: opened or fetched where it is there, otherwise built.

    Args:
        recordings: what the rows are made of.
        front_end: how.
        progress: gets (stage, steps done, steps in all).
        storage: where other machines look for shard sets, and leave them.

    Raises:
        UserError: unreadable audio, a damaged shard set, no space on the disk.
    """
    from sepsearch.data.duplicates import survey

    hashes = _hash_files(recordings, progress)
    fingerprint = _fingerprint(recordings, front_end, hashes)
    folder = cache_folder() / "shards" / fingerprint
    shared = shards_place(storage, fingerprint) if storage else None
    fetched = shared is not None and not folder.exists() and fetch_shards(shared, folder, progress)
    build = not folder.exists()
    if build:
        rows = sum(count_rows(piece, front_end) for piece in recordings.pieces)
        require_space(folder, rows * ROW_BYTES * 1.02, f"a shard set of {rows:,} rows")
        facts = survey(recordings, progress=partial(progress, "surveying"), hashes=hashes)
        _build(recordings, facts, front_end, fingerprint, folder, progress)
    try:
        shards = open_shards(folder)
    except UserError as error:
        if not fetched:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{shared}: not a sound shard set ({error}): delete it there, too") from error
    if shared is not None:
        publish_shards(shared, folder, progress)
    if shards.fingerprint != fingerprint:
        raise UserError(f"{folder}: holds shards {shards.fingerprint}, made of other recordings: delete it, run again")
    return dataclasses.replace(shards, built=build)


def _hash_files(recordings: Recordings, progress: Progress) -> dict[Path, str]:
    """SHA-256 of every stem and mixture: what makes the rows, and what the manifest says of the recordings.

    A mixture that cannot be read has none: it is only compared with.
    """
    stems = [stem.path for piece in recordings.pieces for stem in piece.stems]
    mixtures = [piece.mixture for piece in recordings.pieces if piece.mixture is not None]

    def digest(path: Path) -> str | None:
        try:
            return file_sha256(path)
        except OSError as error:
            if path in unneeded:
                return None
            raise unreadable(path, error) from error

    unneeded = set(mixtures)
    paths = [*stems, *(path for path in mixtures if _is_regular(path))]
    digests = in_threads(digest, paths, Steps(partial(progress, "hashing"), len(paths)))
    return {path: found for path, found in zip(paths, digests, strict=True) if found is not None}


def _is_regular(path: Path) -> bool:
    """Whether it is a file that has an end, unlike pipes and some devices."""
    try:
        return path.is_file()
    except OSError:
        return False


def _fingerprint(recordings: Recordings, front_end: FrontEnd, hashes: dict[Path, str]) -> str:
    facts = {
        "schema_version": SCHEMA_VERSION,
        "front_end": dataclasses.asdict(front_end),
        "level": [LEVEL, SCALE],
        "subsets": [FULL_PLAYERS, SAMPLED_SUBSETS],
        "pieces": [
            [
                piece.name,
                piece.title,
                [[stem.name, hashes[stem.path]] for stem in piece.stems],
                hashes.get(piece.mixture, "unread") if piece.mixture else None,
            ]
            for piece in recordings.pieces
        ],
    }
    return digest(facts)[:16]


def _build(
    recordings: Recordings, facts: "Survey", front_end: FrontEnd, fingerprint: str, folder: Path, progress: Progress
) -> None:
    """Write a shard set; nothing is left behind when that fails."""
    power = [(stem.rms**2 * stem.seconds, stem.seconds) for stem in facts.stems]
    rms = (sum(p for p, _ in power) / sum(s for _, s in power)) ** 0.5
    constant = compression_constant(rms)
    # The longest first, so that no core is left with one at the end.
    pieces = sorted(enumerate(recordings.pieces), key=lambda item: -item[1].seconds * len(item[1].stems))
    with new_folder(folder) as temporary, one_torch_thread():

        def write(item: tuple[int, Piece]) -> dict[str, Any]:
            return write_shard(item[1], front_end, constant, rms, temporary / f"shard-{item[0]:04d}.arrow")

        written = in_threads(write, pieces, Steps(partial(progress, "transforming"), len(pieces)))
        shards = sorted(written, key=lambda shard: shard["file"])
        manifest = _manifest(recordings, facts, front_end, shards)
        manifest |= {"fingerprint": fingerprint, "constant": constant, "rms": rms}
        manifest["sha256"] = digest(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


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
