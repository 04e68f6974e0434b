"""Notifications of a run's events by a command or a webhook (`run --on-event`), in a thread that delays nothing."""

import contextlib
import dataclasses
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sepsearch.monitoring.event_messages import EVENTS, EventMessage, event_message
from sepsearch.runs.state import RunState
from sepsearch.search.events import Event
from sepsearch.utils.errors import UserError, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from sepsearch.runs.start import Begin

FORMS = "[EVENTS:]COMMAND or [EVENTS:]https://…"
FILTER = re.compile(r"([a-z_]+(?:,[a-z_]+)*):(?!//)(.*)", re.DOTALL)
LIMIT_SECONDS = 30.0  # for one notification
FLUSH_SECONDS = 30.0  # at the end, for all that are left
MOST_WAITING = 1000  # notifications of one receiver; more are dropped
PREFIX = "SEPSEARCH_"  # of the variables that a command gets


@dataclass(frozen=True)
class Receiver:
    """What is told of events: a command with its arguments, or the address of a webhook.

    `events` are those it is told of.
    """

    events: frozenset[str]
    command: tuple[str, ...] = ()
    url: str = ""

    @property
    def name(self) -> str:
        """For messages: an address without its path, which can be a secret."""
        return f"{urlsplit(self.url).scheme}://{urlsplit(self.url).hostname}" if self.url else self.command[0]


def parse_receiver(text: str) -> Receiver:
    """A receiver as `--on-event` takes it; raises `UserError` for anything else."""
    found = FILTER.fullmatch(text)
    events = frozenset(found[1].split(",")) if found else frozenset(EVENTS)
    what = (found[2] if found else text).strip()
    if unknown := sorted(events - set(EVENTS)):
        raise UserError(
            f"--on-event: no event {', '.join(unknown)}, expected some of {', '.join(EVENTS)}, then a colon"
        )
    if re.match(r"https?://", what):
        try:
            host = urlsplit(what).hostname
        except ValueError:
            host = None
        if not host or not what.isprintable() or " " in what:
            raise UserError(f"--on-event: an address without a host, or with blanks, expected {FORMS}")
        return Receiver(events, url=what)
    try:
        command = tuple(shlex.split(what))
    except ValueError as error:
        raise UserError(f"--on-event {one_line(what)}: {error}: close the quotation") from error
    if not command:
        raise UserError(f"--on-event {one_line(text)!r}: no command, expected {FORMS}")
    return Receiver(events, command)


def require_commands(receivers: Sequence[Receiver]) -> None:
    """Raise `UserError` for a command that is not there, before hours of training."""
    for receiver in receivers:
        if receiver.command and shutil.which(receiver.command[0]) is None:
            raise UserError(
                f"--on-event {one_line(receiver.command[0])}: no such command, expected a program in PATH or its path;"
                " a shell's own words need one: --on-event \"sh -c '…'\""
            )


def environment(message: EventMessage) -> dict[str, str]:
    """The variables that a command gets beside those of this process."""
    values = {"run": message.run, "event": message.event, "text": message.text, "folder": message.folder}
    return {PREFIX + key.upper(): value for key, value in values.items()}


def run_command(
    receiver: Receiver,
    message: EventMessage,
    seconds: float = LIMIT_SECONDS,
    started: "Callable[[subprocess.Popen[bytes]], object]" = lambda process: None,
) -> str:
    """Run a receiver's command, without a shell, with the message as JSON on its standard input.

    Args:
        receiver: with a command.
        message: what it is told.
        seconds: its time limit.
        started: called with its process, which `kill` ends.

    Returns:
        What went wrong; "" for nothing. A command that takes longer is killed, with all that it has started.
    """
    try:
        process = subprocess.Popen(
            receiver.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment(message)},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"cannot be started: {getattr(error, 'strerror', None) or error}"
    started(process)
    try:
        _, errors = process.communicate(message.json(), timeout=seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        _close(process)
        return f"took longer than {seconds:g} s and was killed"
    last = errors.decode(errors="replace").strip().splitlines()[-1:]
    return (
        f"exit code {process.returncode}{': ' + one_line(last[0])[:200] if last else ''}" if process.returncode else ""
    )


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a command with all that it has started; one that has ended is left."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _close(process: "subprocess.Popen[bytes]") -> None:
    """Collect a process that was killed; what it has handed on to others need not be waited for."""
    process.wait()
    for pipe in (process.stdin, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirections: a POST would become a GET, to somebody else."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


def post(receiver: Receiver, message: EventMessage, seconds: float = LIMIT_SECONDS) -> str:
    """Send a message as JSON to a receiver's address; what went wrong, "" for nothing."""
    request = urllib.request.Request(receiver.url, message.json(), {"Content-Type": "application/json"})
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=seconds):
            return ""
    except urllib.error.HTTPError as error:
        return f"answered {error.code} {one_line(str(error.reason))[:100]}"
    except (OSError, ValueError) as error:
        return f"cannot be reached: {one_line(str(getattr(error, 'reason', error)))[:200]}"


class _Line:
    """The messages of one receiver, sent one after the other in a thread."""

    def __init__(self, receiver: Receiver, warn: Callable[[str], None]):
        self.receiver, self._warn = receiver, warn
        self._waiting: queue.Queue[EventMessage | None] = queue.Queue(MOST_WAITING)
        self._failures = self._dropped = 0
        self._abandoned = threading.Event()
        self._processes: deque[subprocess.Popen[bytes]] = deque(maxlen=1)  # the last one
        self._thread = threading.Thread(target=self._send_all, name="notifications", daemon=True)
        self._thread.start()

    def put(self, message: EventMessage) -> None:
        """Have a message sent; it is dropped where too many wait."""
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._dropped += 1

    def _send_all(self) -> None:
        while (message := self._waiting.get()) is not None and not self._abandoned.is_set():
            if (problem := self._send(message)) and not self._abandoned.is_set():
                self._failures += 1
                if self._failures == 1:
                    self._warn(f"--on-event {self.receiver.name}: {message.event}: {problem}; the run goes on")

    def _send(self, message: EventMessage) -> str:
        if self.receiver.url:
            return post(self.receiver, message)
        return run_command(self.receiver, message, started=self._processes.append)

    def close(self, deadline: float) -> None:
        """Wait until all is sent or a moment of `time.monotonic` has come, and say what was not."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=max(0.0, deadline - time.monotonic()))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._abandoned.set()
        left = 0
        if self._thread.is_alive():
            left = 1 + sum(message is not None for message in self._waiting.queue)
            for process in list(self._processes):
                kill(process)
        missed = self._dropped + left
        if self._failures > 1 or missed:
            parts = [f"{self._failures} failed"] if self._failures > 1 else []
            parts += [f"{missed} were not sent"] if missed else []
            self._warn(f"--on-event {self.receiver.name}: {' and '.join(parts)}")


@contextlib.contextmanager
def notifying(texts: Sequence[str], begin: "Begin", console: "Console") -> "Iterator[Begin]":
    """A run whose events are told to receivers; at the end it waits for them, at most FLUSH_SECONDS.

    Args:
        texts: receivers as `--on-event` takes them.
        begin: the run.
        console: where warnings are printed.

    Raises:
        UserError: a text is no receiver, or its command is not there.
    """
    receivers = [parse_receiver(text) for text in texts]
    require_commands(receivers)
    if not receivers:
        yield begin
        return
    notifier = Notifier(
        receivers,
        str(begin.folder.absolute()),
        lambda text: console.print(f"warning: {text}", markup=False, soft_wrap=True),
    )
    for event in begin.events:
        notifier.learn(event)
    try:
        yield dataclasses.replace(begin, listeners=(*begin.listeners, notifier.handle))
    finally:
        notifier.close()


class Notifier:
    """A journal listener that tells receivers of a run's events.

    Every receiver has a thread and a queue of its own: a slow one delays neither the search nor another one.

    Args:
        receivers: what is told.
        folder: of the run, for messages.
        warn: prints a line; called for the first failure of a receiver, and at the end for what is missing.
    """

    def __init__(self, receivers: Sequence[Receiver], folder: str, warn: Callable[[str], None]):
        self._lines = [_Line(receiver, warn) for receiver in receivers]
        self._folder, self._warn, self._state = folder, warn, RunState()

    def learn(self, event: Event) -> None:
        """Take in an event of an earlier process; nobody is told of it."""
        if self._lines:
            self._state.handle(event)

    def handle(self, event: Event) -> None:
        """Take in an event, and have receivers told of it."""
        if not self._lines:
            return
        try:
            self._state.handle(event)
            message = event_message(event, self._state, self._folder)
        except Exception as error:  # whatever it is, the search goes on
            self._warn(f"--on-event: {event['event']}: {type(error).__name__}: nobody is told of it")
            return
        if message is None:
            return
        for line in self._lines:
            if message.kinds & line.receiver.events:
                line.put(message)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what is left, for at most so many seconds."""
        deadline = time.monotonic() + seconds
        for line in self._lines:
            line.close(deadline)
