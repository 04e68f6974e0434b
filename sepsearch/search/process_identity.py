"""Identity of a process across machines and containers, and whether that process has ended."""

import dataclasses
import json
import os
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, unambiguous among hosts of equal names, containers and reused process numbers.

    `boot` is the kernel's boot id and `namespace` its PID namespace, both "" where the system has none to show; `start`
    is the process's start time in clock ticks after boot, 0 if unknown; `token` is random.
    """

    host: str
    pid: int
    start: int = 0
    boot: str = ""
    namespace: str = ""
    token: str = ""

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    def has_ended(self) -> bool:
        """Whether the process is known to have ended; False where this machine or container cannot know."""
        here = current_process()
        if not self.boot or (self.boot, self.namespace) != (here.boot, here.namespace):
            return False
        return _start_time(self.pid) != self.start


def current_process() -> ProcessIdentity:
    """The identity of this process, with a new token."""
    return ProcessIdentity(
        host=platform.node(),
        pid=os.getpid(),
        start=_start_time(os.getpid()),
        boot=_read("/proc/sys/kernel/random/boot_id"),
        namespace=_link("/proc/self/ns/pid"),
        token=secrets.token_hex(8),
    )


def parse_identity(text: str | bytes) -> ProcessIdentity:
    """An identity from JSON of `as_dict`, also as older versions wrote it; what is damaged counts as unknown."""
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    known = {field.name for field in dataclasses.fields(ProcessIdentity)}
    fitting: dict[str, Any] = {
        name: value
        for name, value in (values.items() if isinstance(values, dict) else ())
        if name in known and isinstance(value, int if name in ("pid", "start") else str)
    }
    return ProcessIdentity(**{"host": "unknown", "pid": 0, **fitting})


def _start_time(pid: int) -> int:
    """Start time of a process (`/proc/PID/stat`, field 22, in clock ticks after boot); 0 if there is none.

    A process that has exited, and that its parent has not asked for (a zombie, state Z), is none.
    """
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
