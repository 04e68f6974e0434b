"""The journal: an append-only file of events, one JSON object a line. It is the truth of a search.

Every event has `event` (its kind) and `time` (seconds since 1970). Kinds, in the order they can appear:

    search     name, run, space, settings, versions, dataset, baselines, caveats, reference, seconds
    trial      id, params                    a trial was handed to a worker
    epoch      id, epoch, ratio, members     an epoch of it was done
    trial_end  id, state, reason, epochs     completed | stopped | failed
    finalists  configurations                the search is over
    final / final_epoch / final_end          the same three for a finalist and seed; final_end also names its weights
    scores     final, reference_final        the models were chosen and scored on the test titles
    registered models                        they are in the registry
    end        state, seconds                finished | interrupted
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sepsearch.errors import UserError, no_space

Event = dict[str, Any]


class Journal:
    """Appends events to a file and hands each to those who listen; an event is on the disk before anyone hears of it.

    Args:
        path: a file that does not exist yet.

    Raises:
        UserError: the file exists, or cannot be written (then and at every event).
    """

    def __init__(self, path: Path):
        self.path = path
        self._listeners: list[Callable[[Event], None]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError as error:
            raise UserError(f"{path}: a journal is already there, expected none: choose another --name") from error
        except OSError as error:
            raise no_space(error, path) from error

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on."""
        self._listeners.append(listener)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one event; it survives a crash of the machine once this returns."""
        event = {"event": kind, "time": time.time(), **fields}
        line = json.dumps(_plain(event), allow_nan=False, separators=(",", ":")) + "\n"
        try:
            # One write per line: a line is there as a whole, or was cut off by a crash and is passed over when read.
            if os.write(self._file, line.encode()) != len(line.encode()):
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
        except OSError as error:
            raise no_space(error, self.path) from error
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def read_journal(path: Path) -> Iterator[Event]:
    """The events of a journal in order; a last line that was cut off by a crash is passed over.

    Raises:
        UserError: the file cannot be read, or a line before the last is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}: is the run's name right?") from error
    for number, line in enumerate(lines[:-1], 1):
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}:{number}: damaged line, expected one JSON event: restore the file") from error
        if isinstance(kind, str):
            yield event
