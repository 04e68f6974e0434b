"""Ray's early start: its dashboard comes when it is asked for, once, and a run goes on without it."""

import contextlib
import threading
from types import SimpleNamespace

import pytest

from sepsearch.distributed import ray_internals, session
from sepsearch.pipeline import early_start
from sepsearch.pipeline.early_start import EarlyStart

PATIENCE = 60.0


class Lines(list):
    """What was said, with a way to wait for it."""

    def __init__(self):
        super().__init__()
        self.said = threading.Event()

    def __call__(self, line):
        self.append(line)
        self.said.set()


@pytest.fixture
def started(monkeypatch):
    """Addresses or errors that starting the dashboard brings about, in turn; what is left was not asked for."""
    outcomes = ["127.0.0.1:8265", "127.0.0.1:8266"]

    def start_dashboard():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @contextlib.contextmanager
    def ray_session(address, dashboard):
        assert not dashboard
        yield session.Session("", 2, 0)

    monkeypatch.setattr(session, "ray_session", ray_session)
    monkeypatch.setattr(session, "set_environment", lambda address: None)
    monkeypatch.setattr(ray_internals, "start_dashboard", start_dashboard)
    monkeypatch.setattr(early_start, "_import_tune", lambda: None)
    monkeypatch.setattr(EarlyStart, "pool", lambda self, workers: None)
    return outcomes


@pytest.fixture
def start(started, tmp_path):
    options = {"address": None, "gpus_per_trial": None, "cpus_per_trial": 1, "workers": None}
    begin = SimpleNamespace(past=SimpleNamespace(scored=None), options=options, folder=tmp_path, journal=None)
    with contextlib.closing(EarlyStart(begin)) as start:
        start.result()
        yield start


def test_the_dashboard_is_started_when_it_is_asked_for_and_its_address_is_said(start, started):
    assert len(started) == 2
    lines = Lines()
    start.show_dashboard(lines)
    assert lines.said.wait(PATIENCE)
    assert lines[0].startswith("Ray dashboard: http://127.0.0.1:8265/#/jobs/")


def test_the_dashboard_is_started_once(start, started):
    first, second = Lines(), Lines()
    start.show_dashboard(first)
    assert first.said.wait(PATIENCE)
    start.show_dashboard(second)
    start.close()
    assert started == ["127.0.0.1:8266"]
    assert second == []


def test_a_dashboard_that_does_not_start_is_a_warning(start, started):
    started[0] = RuntimeError("port 8265\nis in use")
    lines = Lines()
    start.show_dashboard(lines)
    assert lines.said.wait(PATIENCE)
    assert lines == ["warning: Ray's dashboard did not start: port 8265 is in use; the search goes on without it"]


def test_a_run_that_ends_before_it_is_asked_for_starts_no_dashboard(start, started):
    start.close()
    assert len(started) == 2
