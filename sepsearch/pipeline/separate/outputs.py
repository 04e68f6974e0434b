"""Where separated voices are put: a file, or a folder, to which others may be added later."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sepsearch.audio.streams import Sound
from sepsearch.utils.errors import UserError, no_space
from sepsearch.utils.files import is_there


@dataclass(frozen=True)
class Job:
    """One recording and what becomes of it: `target` is a folder, or a file if there is but one voice.

    Files that are there already are replaced if `overwrite`; others in the folder stay.
    """

    sound: Sound
    target: Path
    is_file: bool
    overwrite: bool = False


@contextmanager
def new_target(job: Job) -> Iterator[Path]:
    """A temporary folder beside the target, whose files become the target's, all of them or none."""
    target = job.target
    made: list[Path] = []
    temporary = None
    try:
        made = [path for path in (target.parent, *target.parent.parents) if not path.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        folder = temporary / "new"
        folder.mkdir()  # its permissions are those that new folders get, unlike those of `mkdtemp`
        yield folder
        if job.is_file or is_there(target):
            _put_in_place(folder, target.parent if job.is_file else target, job.overwrite, temporary)
        else:
            os.rename(folder, target)
        made = []
    except OSError as error:
        raise no_space(error, target) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for path in made:
            with suppress(OSError):
                path.rmdir()


def _put_in_place(new: Path, target: Path, overwrite: bool, temporary: Path) -> None:
    """Move the files of a folder to another one; those that they replace are kept till all have moved."""
    former = temporary / "former"
    former.mkdir()
    names, moved = sorted(path.name for path in new.iterdir()), []
    try:
        for name in names:
            if is_there(target / name):
                if not overwrite:
                    raise UserError(
                        f"{target / name}: exists already, made meanwhile by another program: choose another -o"
                    )
                if len(names) > 1:  # a single file is replaced in one step
                    os.rename(target / name, former / name)
            os.replace(new / name, target / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            (target / name).unlink(missing_ok=True)
        for path in former.iterdir():
            os.rename(path, target / path.name)
        raise
