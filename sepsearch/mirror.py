"""A journal in an object store, which cannot append: its lines as small objects, gathered into larger ones.

An object is named after the number of its first line, and a line may be in two objects while they are gathered: whoever
reads in order and passes over what is known finds every line once. A run has one writer, as in a folder: an object with
the writer's name is written again and again while it works, and holds for `LEASE_SECONDS` after that.
"""

import contextlib
import json
import os
import platform
import secrets
import threading
from pathlib import Path

from sepsearch.errors import UserError
from sepsearch.files import write_atomically
from sepsearch.places import Place

GATHERED = 256  # lines of an object once they are gathered
LEASE_SECONDS = 120.0
RENEWAL_SECONDS = 30.0
WRITER = "writer.json"


class Mirror:
    """The journal of one run in a place.

    Args:
        place: where its objects are.
    """

    def __init__(self, place: Place):
        self.place = place
        self.lines = 0  # that are known to be there
        self._loose: list[bytes] = []  # the last of them, in objects of their own
        self._identity = {"host": platform.node(), "pid": os.getpid(), "id": secrets.token_hex(8)}
        self._over, self._lost = threading.Event(), ""
        self._renewal: threading.Thread | None = None

    def exists(self) -> bool:
        """Whether anything of a journal is there."""
        return any(name.endswith(".jsonl") for name in self.place.names())

    def append(self, line: bytes) -> None:
        """Add a line; it is there once this returns. Raises `UserError` if it cannot be, or another process writes."""
        if self._lost:
            raise UserError(self._lost)
        self.place.write(_object(self.lines), line)
        self._loose.append(line)
        self.lines += 1
        if len(self._loose) == GATHERED:
            self._gather()

    def _gather(self) -> None:
        """Make one object of the last lines."""
        first = self.lines - len(self._loose)
        self.place.write(_object(first), b"".join(self._loose))
        self._loose = []
        self.place.remove(*(_object(number) for number in range(first + 1, self.lines)))

    def fetch(self, path: Path) -> None:
        """Bring a copy on this machine up to date.

        What the copy has and the place has not was never there and nobody has heard of it: it is cut off.
        """
        if self.lines and path.exists():
            if news := self._read():
                with path.open("ab") as file:
                    file.writelines(news)
            return
        self.lines = 0
        content = b"".join(self._read())
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)

    def _read(self) -> list[bytes]:
        """The lines from number `lines` on."""
        found: list[bytes] = []
        tries = 0
        while True:
            known = self.lines + len(found)
            firsts = [int(name[:-6]) for name in self.place.names() if name.endswith(".jsonl")]
            start = max((first for first in firsts if first <= known), default=None)
            wanted = [first for first in sorted(firsts) if start is not None and first >= start]
            gone = False
            for first in wanted:
                known = self.lines + len(found)
                if first > known:
                    raise UserError(f"{self.place}: line {known + 1} of the journal is missing: restore the objects")
                content = self.place.read(_object(first))
                if content is None:  # gathered into another one meanwhile
                    gone = True
                    break
                found += content.splitlines(keepends=True)[known - first :]
            if not gone:
                self.lines += len(found)
                return found
            tries += 1
            if tries > 5:
                raise UserError(f"{self.place}: objects of the journal come and go: does another process remove them?")

    def claim(self) -> None:
        """Become the run's one writer until `release`.

        Raises:
            UserError: another process is at work on it, or was a moment ago.
        """
        if content := self.place.read(WRITER):
            other = json.loads(content)
            age = self._age()
            gone = other["host"] == platform.node() and not Path("/proc", str(other["pid"])).exists()
            if not gone and age < LEASE_SECONDS:
                raise UserError(
                    f"{self.place}: another process is at work on this run ({other['host']}, process {other['pid']},"
                    f" heard of {age:.0f} s ago): wait for it or stop it; if it is gone, try again in"
                    f" {LEASE_SECONDS - age:.0f} s"
                )
        self._write_name()
        if problem := self._taken():
            raise UserError(problem)
        self._over.clear()
        self._renewal = threading.Thread(target=self._renew, daemon=True)
        self._renewal.start()

    def release(self) -> None:
        """Let others write."""
        if self._renewal is None:
            return
        self._over.set()
        self._renewal.join()
        self._renewal = None
        with contextlib.suppress(UserError):
            if not self._taken():
                if self._loose:
                    self._gather()
                self.place.remove(WRITER)

    def _age(self) -> float:
        """Seconds since the writer's last sign of life, by the clock of the place alone."""
        probe = f"{WRITER}.{self._identity['id']}"
        self.place.write(probe, b"")
        now, then = self.place.modified(probe), self.place.modified(WRITER)
        self.place.remove(probe)
        return (now or 0.0) - (then or 0.0)

    def _write_name(self) -> None:
        self.place.write(WRITER, json.dumps(self._identity).encode())

    def _taken(self) -> str:
        """Who else has become the writer, as an error; empty if nobody has."""
        content = self.place.read(WRITER)
        other = json.loads(content) if content else {}
        if other.get("id") in (None, self._identity["id"]):
            return ""
        return f"{self.place}: another process has taken this run over ({other['host']}, process {other['pid']})"

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL_SECONDS):
            with contextlib.suppress(UserError):  # the next one may get through; the lease outlasts some
                if problem := self._taken():
                    self._lost = f"{problem}: this one stops"
                    return
                self._write_name()


def _object(line: int) -> str:
    return f"{line:09d}.jsonl"
