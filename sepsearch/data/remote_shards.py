"""Shard sets beside the runs in a storage, so that another machine, or a new one every time, need not build them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sepsearch.data.manifest import MANIFEST, read_manifest
from sepsearch.utils.files import new_folder
from sepsearch.utils.progress import Steps, in_threads
from sepsearch.utils.safe_paths import path_below
from sepsearch.utils.storage import StorageFolder

Progress = Callable[[str, int, int], None]


def shards_place(storage: StorageFolder, fingerprint: str) -> StorageFolder:
    """Where a shard set is in a storage; no run can have such a name."""
    return storage / ".shards" / fingerprint


def fetch_shards(storage: StorageFolder, folder: Path, progress: Progress) -> bool:
    """Bring a shard set to a folder that does not exist; whether there is one. `open_shards` checks it.

    Raises:
        UserError: the storage does not answer, its manifest is damaged, or the disk is full.
    """
    if (manifest := storage.read(MANIFEST)) is None:
        return False
    with new_folder(folder) as new:
        (new / MANIFEST).write_bytes(manifest)
        pieces = read_manifest(new / MANIFEST, f"delete {storage} and run again: the shards are built anew")["pieces"]

        def fetch(name: str) -> None:
            if (content := storage.read(name)) is not None:
                path_below(new, name, storage).write_bytes(content)

        steps = Steps(partial(progress, "fetching shards"), len(pieces))
        in_threads(fetch, [piece["shard"]["file"] for piece in pieces], steps)
    return True


def publish_shards(storage: StorageFolder, folder: Path, progress: Progress) -> None:
    """Write a shard set to a storage folder that has none, its manifest last: without a manifest it does not exist."""
    if storage.read(MANIFEST) is not None:
        return
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    steps = Steps(partial(progress, "publishing shards"), len(names))
    in_threads(lambda name: storage.write(name, (folder / name).read_bytes()), names, steps)
    storage.write(MANIFEST, (folder / MANIFEST).read_bytes())
