"""Standard input and standard output as audio files: what is read twice, or written whole or not at all, is kept in a
temporary folder on the way.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sepsearch.utils.errors import UserError, no_space
from sepsearch.utils.output import write_note
from sepsearch.utils.terminal_text import write_line

INPUT, OUTPUT = "standard input", "standard output"


@dataclass
class Pipes:
    """The files that stand for standard input and output; None where none does."""

    source: Path | None = None
    target: Path | None = None
    names: dict[str, str] = field(default_factory=dict)

    def shown(self, text: str) -> str:
        """A message with the pipes' names in place of the files'."""
        for path, name in self.names.items():
            text = text.replace(path, name)
        return text

    def say(self, line: str) -> None:
        """Print a message: on standard error where standard output is audio."""
        write_line(self.shown(line), error=self.target is not None)

    def note(self, line: str) -> None:
        """Print a message beside the result, which `--quiet` leaves out; otherwise as `say`."""
        write_note(self.shown(line), error=self.target is not None)

    def send(self) -> None:
        """Copy the target to standard output; raises `UserError` if whoever reads it has gone."""
        if self.target is None:
            return
        try:
            with self.target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            # Python flushes standard output once more at its end, which must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise UserError(f"{OUTPUT}: closed before all of the audio was read: look at what reads it") from error
        except OSError as error:
            raise no_space(error, OUTPUT, "a place that can be written") from error


@contextmanager
def open_pipes(reads: bool, writes: str) -> Iterator[Pipes]:
    """Standard input, if it `reads`, copied to a file; a file for standard output, if it `writes` a format's suffix.

    Raises:
        UserError: a pipe is a terminal, or cannot be kept on the disk; and those of the body, with the pipes' names.
    """
    if not reads and not writes:
        yield Pipes()
        return
    if reads and sys.stdin.isatty():
        raise UserError("-: expected a WAV file on standard input, found a terminal: pipe one in, or name a file")
    if writes and sys.stdout.isatty():
        raise UserError("-o -: expected a pipe or a file for the audio, found a terminal: add '> voice.wav'")
    with tempfile.TemporaryDirectory(prefix="sepsearch-pipe-") as name:
        folder = Path(name)
        pipes = Pipes(folder / "stdin" if reads else None, folder / f"stdout.{writes}" if writes else None)
        pipes.names = {str(folder / "stdin"): INPUT, str(folder / f"stdout.{writes}"): OUTPUT}
        try:
            if pipes.source:
                _copy_input(pipes.source)
            yield pipes
        except UserError as error:
            raise UserError(pipes.shown(str(error))) from error


def _copy_input(path: Path) -> None:
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as error:
        raise no_space(error, INPUT, "another TMPDIR") from error
