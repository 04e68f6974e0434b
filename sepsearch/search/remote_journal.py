"""The journal of a run in an object store: one object a line, created only if absent; read and appended to.

The object of line n is `n.jsonl` (nine digits, from 0). It is never replaced or removed, so two writers cannot both
have line n: one of them is refused and stops, however long it was stopped before. For readers, 256 lines at a time are
copied to `gathered/n.jsonl`, n the first of them; the journal is whole without these. Journals of earlier versions,
where `n.jsonl` itself can hold lines n to n + 255, are read and gone on with.

`writer.json` names the process that writes and is renewed while it works. It only keeps a second process that was
started by mistake from ending the first; nothing else depends on it.
"""

import contextlib
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from sepsearch.search.process_identity import ProcessIdentity, current_process, parse_identity
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import write_atomically
from sepsearch.utils.storage import StorageFolder

GATHERED = 256  # lines of a gathered object
FOLDER = "gathered"
OBJECT = re.compile(rf"(?:{FOLDER}/)?([0-9]{{9}})\.jsonl")
ALIVE_SECONDS = 120.0  # a writer that has not renewed its name for longer is taken for dead
RENEWAL_SECONDS = 30.0
WRITER = "writer.json"


class RemoteJournal:
    """The journal of one run in a storage.

    Args:
        storage: where its objects are.
    """

    def __init__(self, storage: StorageFolder):
        self.storage = storage
        self.lines = 0  # number of lines read or written so far; the next one to write has this number
        self._ungathered: list[bytes] = []  # the last of them
        self._unsettled: bytes | None = None  # a line of which it is not known whether it was written
        self._identity = current_process()
        self._over = threading.Event()
        self._renewal: threading.Thread | None = None

    def exists(self) -> bool:
        """Whether the journal has a first line."""
        return self.storage.read(_object(0)) is not None

    def append(self, line: bytes) -> None:
        """Write a line as number `lines`; it is there once this returns.

        Two writers that happen to write the same bytes both go on, and one of them is refused the next line.

        Raises:
            UserError: it cannot be written, or another process has written a line with this number.
        """
        name = _object(self.lines)
        try:
            written = self.storage.create(name, line)
        except BaseException:
            self._unsettled = line
            raise
        if not written:
            raise UserError(f"{self.storage}/{name}: {self._refusal(name)}: this process stops")
        self.lines += 1
        self._ungathered.append(line)
        if len(self._ungathered) % GATHERED == 0:
            self._gather()

    def _refusal(self, name: str) -> str:
        """Why a line is there already."""
        if self._unsettled is not None and self.storage.read(name) == self._unsettled:
            return "an event reached the storage after all, although that had not answered; go on with --resume"
        who = self._writer() or "which has ended since"
        return f"another process ({who}) has written this line of the journal, so it has taken this run over"

    def _gather(self) -> None:
        """Copy the last lines to one object, for readers; where that fails, the next call does it."""
        if self._ungathered:
            with contextlib.suppress(UserError):
                first = self.lines - len(self._ungathered)
                self.storage.write(f"{FOLDER}/{_object(first)}", b"".join(self._ungathered))
                self._ungathered = []

    def read_all(self) -> list[bytes]:
        """All lines; see `lines_from`."""
        return self.lines_from(0)

    def lines_from(self, number: int) -> list[bytes]:
        """The lines from a number on, in order; `append` then writes behind the last of them.

        Raises:
            UserError: the storage does not answer, or a line between others is missing.
        """
        found = self._joined(number, self._gathered_objects()) if number == 0 else []
        gathered = len(found)
        loose = self._loose_objects(f"{number + gathered:09d}")
        found += self._joined(number + gathered, loose)
        if loose and _number(loose[-1]) >= number + len(found):
            # Line n may be in an object of an earlier version that begins before n, or in a gathered one alone.
            everything = sorted(self._loose_objects() + self._gathered_objects(), key=_number)
            found, gathered = self._joined(number, everything), 0
            if _number(everything[-1]) >= number + len(found):
                missing = number + len(found) + 1
                raise UserError(f"{self.storage}: line {missing} of the journal is missing: restore the objects")
        self.lines = number + len(found)
        self._ungathered = found[gathered:] if number == 0 else []
        return found

    def _gathered_objects(self) -> list[str]:
        """Names of the gathered objects, in order."""
        names = (f"{FOLDER}/{name}" for name in (self.storage / FOLDER).names())
        return [name for name in names if OBJECT.fullmatch(name)]

    def _loose_objects(self, after: str = "") -> list[str]:
        """Names of the other objects with lines behind a name, in order."""
        return [name for name in self.storage.names(after) if OBJECT.fullmatch(name) and not name.startswith(FOLDER)]

    def _joined(self, number: int, names: Sequence[str]) -> list[bytes]:
        """The lines from a number on that objects hold, to the first that none of them has."""
        found: list[bytes] = []
        for name, content in zip(names, self.storage.read_all(names), strict=True):
            known = number + len(found)
            if _number(name) > known:
                break
            found += (content or b"").splitlines(keepends=True)[known - _number(name) :]
        return found

    def fetch(self, path: Path) -> None:
        """Bring a copy on this machine up to date; what the copy has and the storage has not is cut off."""
        if self.lines and path.exists():
            if news := self.lines_from(self.lines):
                with path.open("ab") as file:
                    file.writelines(news)
            return
        content = b"".join(self.read_all())
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)

    def claim(self) -> None:
        """Name this process as the run's writer until `release`.

        Raises:
            UserError: another process has renewed its name a moment ago, or the store cannot create objects only if
                absent, which the journal depends on.
        """
        now, other = self._probe(), self._writer()
        # The other may have renewed its name since the probe.
        age = max(0.0, now - (self.storage.modified(WRITER) or 0.0))
        if other and age < ALIVE_SECONDS and not other.has_ended():
            raise UserError(
                f"{self.storage}: another process is at work on this run ({other}, last sign of life {age:.0f} s"
                f" ago): wait for it or stop it; if it is gone, try again in {ALIVE_SECONDS - age:.0f} s"
            )
        self._sign()
        self._over.clear()
        self._renewal = threading.Thread(target=self._renew, daemon=True)
        self._renewal.start()

    def release(self) -> None:
        """Stop naming this process as the writer. What cannot be done is left: the name expires, lines are there."""
        if self._renewal is None:
            return
        self._over.set()
        self._renewal.join()
        self._renewal = None
        self._gather()
        with contextlib.suppress(UserError):
            if self._writer() == self._identity:
                self.storage.remove(WRITER)

    def _probe(self) -> float:
        """Try a conditional write; gives the present time by the clock of the storage, in seconds since 1970."""
        name = f"probe-{self._identity.token}"
        try:
            self.storage.create(name, b"first")
            if self.storage.create(name, b"second"):
                raise UserError(
                    f"{self.storage}: this store replaces an object that was to be created only if absent"
                    " (If-None-Match), so two processes could damage a journal: update the store, or use another one,"
                    " or a shared folder"
                )
            return self.storage.modified(name) or 0.0
        finally:
            with contextlib.suppress(UserError):
                self.storage.remove(name)

    def holder(self) -> ProcessIdentity | None:
        """The process that is at work on the run, by its own word; None if there is none, or it is known to have ended.

        One that was killed on another machine is still named.
        """
        writer = self._writer()
        return None if writer is None or writer.has_ended() else writer

    def _writer(self) -> ProcessIdentity | None:
        """The process that `writer.json` names; None if there is no such object."""
        content = self.storage.read(WRITER)
        return None if content is None else parse_identity(content)

    def _sign(self) -> None:
        self.storage.write(WRITER, json.dumps(self._identity.as_dict()).encode())

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL_SECONDS):
            with contextlib.suppress(UserError):  # the next one may get through
                if self._writer() == self._identity:
                    self._sign()


def _object(line: int) -> str:
    return f"{line:09d}.jsonl"


def _number(name: str) -> int:
    """The number of an object's first line."""
    return int(name[-15:-6])
