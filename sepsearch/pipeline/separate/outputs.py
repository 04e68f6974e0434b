"""Where separated voices are put: a new folder or file, or one that replaces what was separated before, in one step."""

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

    What has the target's path already is replaced if `overwrite`.
    """

    sound: Sound
    target: Path
    is_file: bool
    overwrite: bool = False


@contextmanager
def new_target(job: Job) -> Iterator[Path]:
    """A temporary folder beside the target, which becomes the target, or whose one file does; else it is removed."""
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
        _put_in_place(folder / target.name if job.is_file else folder, job, temporary / "former")
        made = []
    except OSError as error:
        raise no_space(error, target) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for path in made:
            with suppress(OSError):
                path.rmdir()


def _put_in_place(new: Path, job: Job, former: Path) -> None:
    """Give a file or folder its target's path; what has that may be replaced is moved to `former` for the moment."""
    target = job.target
    if not is_there(target):
        os.rename(new, target)
    elif not job.overwrite:
        raise UserError(f"{target}: exists already, made meanwhile by another program: choose another -o")
    elif job.is_file:
        os.replace(new, target)
    else:
        os.rename(target, former)  # no file system exchanges two folders in one step that Python has
        try:
            os.rename(new, target)
        except BaseException:
            os.rename(former, target)
            raise
