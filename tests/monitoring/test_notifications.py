"""Notifications of events: what receivers get, what they are told of, and that no receiver can delay or end a run."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from event_fixtures import interrupted_story, journal, story
from rich.console import Console

from sepsearch.monitoring.event_messages import EVENTS, EventMessage, event_message
from sepsearch.monitoring.notifications import (
    Notifier,
    Receiver,
    notifying,
    parse_receiver,
    post,
    require_commands,
    run_command,
)
from sepsearch.runs.options import RunOptions, kept_options, make_parser
from sepsearch.runs.state import RunState
from sepsearch.search.events import Event
from sepsearch.utils.errors import UserError

MESSAGE = EventMessage("end", frozenset({"end"}), "duets", "/runs/duets", 0.0, "duets: has ended", {"x": float("nan")})
ALL = frozenset(EVENTS)


def script(folder: Path, text: str) -> tuple[str, ...]:
    """A command that runs a Python script."""
    (folder / "receiver.py").write_text(text)
    return sys.executable, str(folder / "receiver.py")


def messages(events: list[Event]) -> list[EventMessage]:
    run, found = RunState(), []
    for event in events:
        run.handle(event)
        if message := event_message(event, run, "/runs/duets"):
            found.append(message)
    return found


@pytest.mark.parametrize(
    ("text", "events", "command", "url"),
    [
        ("mail-me", ALL, ("mail-me",), ""),
        ("end,failed:mail-me 'two words'", {"end", "failed"}, ("mail-me", "two words"), ""),
        ("https://example.org/x", ALL, (), "https://example.org/x"),
        ("end:http://127.0.0.1:8/x", {"end"}, (), "http://127.0.0.1:8/x"),
        ("/bin/a:b", ALL, ("/bin/a:b",), ""),
    ],
)
def test_a_receiver_is_a_command_or_an_address_with_the_events_that_it_is_told_of(text, events, command, url):
    assert parse_receiver(text) == Receiver(frozenset(events), command, url)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ends:mail-me", "no event ends, expected some of search"),
        ("mail-me 'x", "close the quotation"),
        ("end:", "no command"),
        ("https://", "address without a host"),
        ("https://exa mple.org", "with blanks"),
    ],
)
def test_a_text_that_is_no_receiver_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_receiver(text)


def test_a_command_that_is_not_there_is_refused_before_the_search():
    with pytest.raises(UserError, match="no such command"):
        require_commands([parse_receiver("no-such-command-anywhere")])


def test_a_command_gets_the_event_as_json_and_in_variables_without_a_shell(tmp_path):
    text = "import json, os, sys; json.dump([json.load(sys.stdin), dict(os.environ), sys.argv], open('out', 'w'))"
    command = (sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {text}", "$HOME; true")
    assert run_command(Receiver(ALL, command), MESSAGE) == ""
    told, variables, arguments = json.loads((tmp_path / "out").read_text())
    assert told == {
        "format": 1,
        "event": "end",
        "run": "duets",
        "time": "1970-01-01T00:00:00+00:00",
        "folder": "/runs/duets",
        "text": "duets: has ended",
        "data": {"x": None},
    }
    assert (variables["SEPSEARCH_RUN"], variables["SEPSEARCH_EVENT"]) == ("duets", "end")
    assert (variables["SEPSEARCH_TEXT"], variables["SEPSEARCH_FOLDER"]) == ("duets: has ended", "/runs/duets")
    assert arguments[1:] == ["$HOME; true"]


def test_a_command_that_fails_is_told_by_its_exit_code_and_last_line(tmp_path):
    command = script(tmp_path, "import sys; print('first', file=sys.stderr); sys.exit('no mail server')")
    assert run_command(Receiver(ALL, command), MESSAGE) == "exit code 1: no mail server"


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path):
    text = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    command = script(tmp_path, f"{text}; time.sleep(600)")
    assert run_command(Receiver(ALL, command), MESSAGE, seconds=2.0) == "took longer than 2 s and was killed"


class _Hook(BaseHTTPRequestHandler):
    """A webhook that keeps what it was sent and answers with the status in its path."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.bodies.append(json.loads(self.rfile.read(length)))  # type: ignore[attr-defined]
        self.send_response(int(self.path[1:]))
        self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Hook)
    server.bodies = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(hook: HTTPServer, status: int) -> Receiver:
    return Receiver(ALL, url=f"http://127.0.0.1:{hook.server_port}/{status}")


def test_a_webhook_gets_the_event_as_json(hook):
    assert post(address(hook, 200), MESSAGE) == ""
    assert hook.bodies[0]["text"] == "duets: has ended"


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_or_redirects_is_a_failure_and_is_not_followed(hook, status):
    assert post(address(hook, status), MESSAGE).startswith(f"answered {status}")
    assert len(hook.bodies) == 1


def test_a_webhook_that_is_not_there_is_a_failure():
    assert post(Receiver(ALL, url="http://127.0.0.1:9/x"), MESSAGE, 5.0).startswith("cannot be reached")


def test_an_address_with_a_secret_path_is_named_by_its_host_alone():
    assert parse_receiver("https://user:word@hooks.example.org/T0/SECRET").name == "https://hooks.example.org"


def test_a_run_tells_its_beginning_every_trial_its_choices_and_its_end():
    found = messages(journal(story()))
    assert [message.event for message in found][:2] == ["search", "trial_end"]
    assert {"finalists", "scores", "registered", "end"} <= {message.event for message in found}
    assert "epoch" not in {message.event for message in found}
    end = found[-1]
    assert (end.text, end.data["state"], end.data["best"]["id"]) == ("duets: has ended: finished", "finished", "t0000")


def test_a_failed_trial_goes_by_failed_as_well():
    failed = [message for message in messages(journal(story())) if "failed" in message.kinds]
    assert [(message.event, message.data["id"]) for message in failed] == [("trial_end", "t0002")]
    assert "failed: NaN" in failed[0].text


def test_a_resumed_run_says_that_it_goes_on():
    found = [message for message in messages(journal(interrupted_story())) if message.event == "resume"]
    assert [message.text for message in found][:1] == ["duets: goes on, 2 trials have begun"]


def test_receivers_of_a_resumed_run_are_told_of_new_events_alone(tmp_path):
    command = script(tmp_path, f"import sys; open({str(tmp_path / 'out')!r}, 'a').write(sys.stdin.read() + chr(10))")
    notifier = Notifier([Receiver(ALL, command)], "", pytest.fail)
    *before, last = journal(story())
    for event in before:
        notifier.learn(event)
    notifier.handle(last)
    notifier.close(60.0)
    (told,) = (tmp_path / "out").read_text().splitlines()
    assert json.loads(told)["data"]["best"] == {"id": "t0000", "ratio": 0.25}


def test_a_message_is_one_printable_line_whatever_an_exception_said():
    told = journal(story())
    evil = [{**event, "reason": "x\nBcc: all\x00"} if event["event"] == "trial_end" else event for event in told]
    texts = [message.text for message in messages(evil)]
    assert all(text.isprintable() for text in texts)
    assert any("Bcc" in text for text in texts)


def test_receivers_are_told_of_their_events_alone_and_all_is_sent_before_the_end(tmp_path):
    text = "import json, sys; open('OUT', 'a').write(json.load(sys.stdin)['event'] + '\\n')"
    command = script(tmp_path, text.replace("OUT", str(tmp_path / "out")))
    warnings: list[str] = []
    notifier = Notifier([Receiver(frozenset({"finalists", "end"}), command)], "", warnings.append)
    for event in journal(story()):
        notifier.handle(event)
    notifier.close(60.0)
    assert (tmp_path / "out").read_text().split() == ["finalists", "end"]
    assert warnings == []


def test_failures_of_a_receiver_are_one_warning_and_one_count():
    warnings: list[str] = []
    notifier = Notifier([Receiver(ALL, (sys.executable, "-c", "raise SystemExit(3)"))], "", warnings.append)
    count = 0
    for event in journal(story())[:8]:
        notifier.handle(event)
        count += event["event"] in EVENTS
    notifier.close(60.0)
    first, last = warnings
    assert first.endswith("search: exit code 3; the run goes on")
    assert last.endswith(f"{count} failed")


def test_a_receiver_that_hangs_delays_neither_events_nor_the_end(tmp_path):
    warnings: list[str] = []
    command = script(tmp_path, "import time; time.sleep(20)")
    notifier = Notifier([Receiver(ALL, command)], "", warnings.append)
    for event in journal(story()):
        notifier.handle(event)
    notifier.close(0.0)
    assert len(warnings) == 1
    assert "were not sent" in warnings[0]


def test_an_event_that_cannot_be_told_ends_no_run():
    warnings: list[str] = []
    notifier = Notifier([Receiver(ALL, ("true",))], "", warnings.append)
    notifier.handle({"event": "trial_end", "id": "nobody"})  # type: ignore[typeddict-item]
    notifier.close()
    assert "nobody is told of it" in warnings[0]


def test_a_journal_keeps_no_receiver_and_a_resumed_run_asks_for_it_anew():
    options = RunOptions(on_event=["mail-me"])
    assert "mail-me" not in str(kept_options(options, {"on_event": ["other"]}))
    assert "on_event" not in kept_options(options, {"on_event": ["other"]})


def test_the_option_lists_all_events():
    action = next(action for action in make_parser()._actions if action.dest == "on_event")
    assert [event for event in EVENTS if event not in action.help] == []


class _Begin:
    """What `notifying` needs of a run."""

    folder, events, listeners = Path("runs/duets"), (), ()


def test_without_receivers_a_run_is_as_it_was():
    begin = _Begin()
    with notifying((), begin, Console(file=io.StringIO())) as same:
        assert same is begin
