"""Prepare a folder of recordings: check it, and build the spectrogram shards where they are missing."""

from pathlib import Path

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.recordings import Recordings, read_folder
from sepsearch.data.shards import Progress as Callback
from sepsearch.data.shards import ShardSet, prepare_shards
from sepsearch.utils.storage import StorageFolder


def prepare(
    folder: Path, front_end: FrontEnd, progress: Callback, storage: StorageFolder | None = None
) -> tuple[Recordings, ShardSet]:
    """Check the recordings in a folder, and open their shards or build them where they are not there yet.

    Raises `UserError` for recordings that `read_folder` or `prepare_shards` refuses; nothing half-written is left.
    """
    recordings = read_folder(folder)
    return recordings, prepare_shards(recordings, front_end, progress, storage)
