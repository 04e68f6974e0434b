"""A real Prometheus scrapes Ray while a small search runs: its gauges say what the journal says, and Ray names trials."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugin_fixtures import install
from small_spaces import small_space

from sepsearch.distributed.worker_metrics import MEMORY
from sepsearch.monitoring.prometheus import GAUGES
from sepsearch.search.events import Event
from sepsearch.search.journal import read_run

MONITORING = Path(__file__).parents[2] / "cluster" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "sepsearch.json"
SPACE = "family: paced\n" + small_space(
    "trials: 12, epochs: 6, examples_per_epoch: 64, validation_examples: 32, startup_trials: 4", "seeds: 2, epochs: 30"
)
# A fast machine trains several trials between two exports of Ray's, and those would leave no sample.
PACED_FAMILY = """
import time
from dataclasses import dataclass
from typing import ClassVar
from sepsearch.models.families import Family
from sepsearch.models.reference import ReferenceConfig, ReferenceNetwork

@dataclass(frozen=True)
class Config(ReferenceConfig):
    family: ClassVar[str] = "paced"

class Network(ReferenceNetwork):
    def forward(self, mixture):
        time.sleep(0.3)
        return super().forward(mixture)

FAMILY = Family(Config, Network, ReferenceNetwork.output_axes)
"""
TOKEN = "0123456789abcdef" * 4
PATIENCE = 3000.0  # seconds
REPORT = "3000"  # milliseconds between two exports of Ray's; whatever was not set for twice that is forgotten


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt-get install prometheus"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, **headers: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return json.load(answer)


@dataclass
class Watched:
    """A search that a Prometheus has watched to its end."""

    prometheus: str
    dashboard: str
    tasks: list[dict[str, Any]]
    events: list[Event]

    def query(self, expression: str, when: float | None = None) -> list[dict[str, Any]]:
        at = {"time": f"{when:.3f}"} if when else {}
        answer = get(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression, **at})}")
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def samples(self, selector: str) -> Iterator[tuple[dict[str, str], float, float]]:
        """Every sample of the last two hours: labels, time, value."""
        for series in self.query(f"{selector}[2h]"):
            for moment, value in series["values"]:
                yield series["metric"], float(moment), float(value)

    def of(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event["event"] in kinds]


@pytest.fixture(scope="module")
def short() -> Iterator[Path]:
    """A folder with a short path: those of Ray's sockets must fit into 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="sep", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def environment(folder: Path, short: Path) -> dict[str, str]:
    """An environment in which nothing is shared with other searches of this machine."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    return own | {
        "RAY_TMPDIR": str(short),
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_metrics_report_interval_ms": REPORT,
        "SEPSEARCH_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, short) -> Iterator[str]:
    """A Prometheus with the configuration that is documented, but for the place of Ray's list of nodes."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    text = (MONITORING / "prometheus.yml").read_text()
    assert "/tmp/ray/" in text
    (folder / "prometheus.yml").write_text(text.replace("/tmp/ray/", f"{short}/ray/").replace(": 5s", ": 1s"))
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=60)


@pytest.fixture(scope="module")
def watched(tree, tmp_path_factory, prometheus, short) -> Watched:
    folder = tmp_path_factory.mktemp("search")
    (folder / "space.yaml").write_text(SPACE)
    site = folder / "site"
    site.mkdir()
    install(site, "paced-networks", {"_paced": PACED_FAMILY}, {"sepsearch.families: paced": "_paced:FAMILY"})
    journal = folder / "runs" / "x" / "journal.jsonl"
    options = ["--space", "space.yaml", "--data", str(tree), "--instruments", "vn,vc", "--name", "x", "--seed", "2"]
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sepsearch.run", *options],
            cwd=folder,
            env=environment(folder, short) | {"PYTHONPATH": str(site)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    tasks: list[dict[str, Any]] = []
    deadline, dashboard = time.monotonic() + PATIENCE, ""
    while process.poll() is None:
        assert time.monotonic() < deadline, (folder / "output.txt").read_text()
        if found := re.search(r"Ray dashboard: (http://[0-9.:]+)", (folder / "output.txt").read_text()):
            dashboard = found[1]
        # Ray keeps finished tasks, so the last answer before the end has nearly all of them.
        if dashboard and journal.exists() and '"final_epoch"' in journal.read_text():
            try:
                answer = get(f"{dashboard}/api/v0/tasks?limit=10000&detail=1", Authorization=f"Bearer {TOKEN}")
                tasks = answer["data"]["result"]["result"]
            except OSError:  # it has just ended
                break
        time.sleep(0.5)
    assert process.wait(timeout=PATIENCE) == 0, (folder / "output.txt").read_text()
    return Watched(prometheus, dashboard, tasks, list(read_run(journal)))


@pytest.fixture(scope="module")
def trial_at(watched) -> dict[tuple[str, float], str]:
    """(Slot, moment of a scrape) → the trial that Prometheus has there."""
    scraped = watched.samples('ray_sepsearch_trial_number{search="x"}')
    return {(labels["slot"], moment): f"t{int(value):04d}" for labels, moment, value in scraped}


def test_every_ratio_that_was_scraped_is_one_of_the_journal_and_of_its_trial(watched, trial_at):
    written: dict[tuple[str, str], set[float]] = {}
    for event in watched.of("epoch", "final_epoch"):
        of = {member["instrument"]: member["ratio"] for member in event["members"]} | {"all": event["ratio"]}
        id = event["id"] if event["event"] == "epoch" else "finalist"
        for code, ratio in of.items():
            written.setdefault((id, code), set()).add(ratio)
    scraped = list(watched.samples('ray_sepsearch_ratio{search="x"}'))
    assert {labels["instrument"] for labels, _, _ in scraped} == {"vn", "vc", "all"}
    seen = set()
    for labels, moment, value in scraped:
        code, trial = labels["instrument"], trial_at.get((labels["slot"], moment), "finalist")
        # The number of a slot's last trial is shown for some seconds more, beside the ratio of the finalist after it.
        assert value in written.get((trial, code), ()) or value in written["finalist", code]
        seen |= {trial} if value in written.get((trial, code), ()) else {"finalist"}
    assert len(seen - {"finalist"}) > 1
    assert "finalist" in seen


def test_the_epochs_of_a_trial_are_scraped_as_the_journal_has_them(watched, trial_at):
    epochs = {
        (e["id"] if e["event"] == "epoch" else "finalist", float(e["epoch"]))
        for e in watched.of("epoch", "final_epoch")
    }
    scraped = {
        (trial_at.get((labels["slot"], moment), "finalist"), value)
        for labels, moment, value in watched.samples('ray_sepsearch_epoch{search="x"}')
    }
    assert scraped
    assert {one for one in scraped if one not in epochs and ("finalist", one[1]) not in epochs} == set()


def test_slots_are_numbered_from_0_to_the_number_of_units_at_a_time(watched):
    most, running = 0, set()
    for event in watched.events:
        if event["event"] in ("trial", "promoted", "final"):
            running.add(event["id"])
        elif event["event"] in ("paused", "trial_end", "final_end"):
            running.discard(event["id"])
        most = max(most, len(running))
    slots = {int(labels["slot"]) for labels, _, _ in watched.samples('ray_sepsearch_epoch{search="x"}')}
    assert slots == set(range(most))


def test_the_best_ratio_is_the_journals_at_the_end_of_the_search(watched):
    full = [event for event in watched.of("epoch") if event["epoch"] == 6]
    last = {labels["instrument"]: value for labels, _, value in watched.samples('ray_sepsearch_best_ratio{search="x"}')}
    assert last["all"] == pytest.approx(min(event["ratio"] for event in full))
    for code in ("vn", "vc"):
        of = [member["ratio"] for event in full for member in event["members"] if member["instrument"] == code]
        assert last[code] == pytest.approx(min(of))


def test_trials_by_state_come_to_what_the_journal_counts(watched):
    (end,) = watched.of("finalists")
    last = {
        labels["state"]: value
        for labels, moment, value in watched.samples('ray_sepsearch_trials{search="x",stage="search"}')
        if moment > end["time"]
    }
    states = [event["state"] for event in watched.of("trial_end")]
    counted = {state: float(states.count(state)) for state in ("completed", "stopped", "failed")}
    assert last == {**counted, "waiting": 0.0, "running": 0.0}


def test_speed_memory_and_what_is_left_have_plausible_values(watched):
    begin, end = watched.of("trial")[0]["time"], watched.of("scores")[0]["time"]
    most = len(watched.of("epoch", "final_epoch"))
    speeds = [value for _, _, value in watched.samples('ray_sepsearch_epochs_per_second{search="x"}') if value]
    assert speeds
    assert most / (end - begin) / 10 < max(speeds) < most
    told = {event["examples_per_second"] for event in watched.of("epoch", "final_epoch")}
    examples = [value for _, _, value in watched.samples('ray_sepsearch_examples_per_second{search="x"}') if value]
    assert min(told) <= max(examples) <= 64 * max(told)
    left = [value for _, _, value in watched.samples('ray_sepsearch_remaining_seconds{search="x"}')]
    assert max(left) > 0
    memory = list(watched.samples(f'ray_{MEMORY}{{search="x"}}'))
    assert {labels["device"] for labels, _, _ in memory} == {"cpu"}
    assert all(5e7 < value < 2e10 for _, _, value in memory)  # torch alone takes a tenth of a gigabyte
    assert len({labels["worker"] for labels, _, _ in memory}) >= 1


def test_the_series_of_a_trial_that_has_ended_go_away_while_the_search_goes_on(watched):
    seen: dict[
        int, float
    ] = {}  # number of a trial → when it was scraped last; one shorter than Ray's interval may not be
    for _, moment, number in watched.samples('ray_sepsearch_trial_number{search="x"}'):
        seen[int(number)] = max(moment, seen.get(int(number), 0.0))
    ends = {int(end["id"][1:]): end["time"] for end in watched.of("trial_end")}
    over = max(event["time"] for event in watched.of("final_end"))
    # One interval until it is exported, two until it is forgotten.
    forgotten = {number: ends[number] + 5 * int(REPORT) / 1000 for number in seen}
    judged = [number for number in seen if forgotten[number] < over]
    assert judged, "the search was too short to see it"
    assert [number for number in judged if seen[number] >= forgotten[number]] == []


def test_the_tasks_in_rays_dashboard_are_named_after_trials_epochs_and_ratios(watched):
    names = {task["name"] for task in watched.tasks}
    units = {event["id"] for event in watched.of("trial", "final")}
    assert {"t0000", "t0001", "c0-s3"} <= {name.split()[0] for name in names}
    # Which trials go on after their first epoch depends on how many there were to compare it with.
    assert any(re.fullmatch(r"t\d{4} epoch 2/\d+, ratio \d\.\d{3}", name) for name in names)
    trained = {
        task["name"].split()[0]
        for task in watched.tasks
        if "train" in (task.get("func_or_class_name") or "").rpartition(".")[2]
    }
    # The same workers also started, and tried corners of the space before the search.
    assert {name for name in trained if not name.startswith(("start-", "corner-"))} <= units


def test_the_dashboards_list_of_searches_is_filled(watched):
    answer = get(f"{watched.prometheus}/api/v1/label/search/values?match[]=ray_sepsearch_trials")
    assert answer["data"] == ["x"]


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_of_the_dashboard_has_data(expression, watched):
    found: list[Any] = []
    for event in watched.of("epoch", "final_epoch")[1::3]:  # while it ran
        found += watched.query(expression.replace("$search", "x"), event["time"] + 4)
    assert found


def test_every_metric_of_the_dashboard_is_a_gauge_and_every_gauge_is_on_it():
    names = {name for text in expressions() for name in re.findall(r"\b[a-z_]+(?=\{)", text)}
    assert names == {f"ray_{name}" for name in GAUGES}


def test_the_dashboard_is_whole(tmp_path):
    dashboard = json.loads(DASHBOARD.read_text())
    provisioned = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    uids = {source["uid"] for source in provisioned["datasources"]}
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["id"] is None
    assert dashboard["uid"]
    (variable,) = dashboard["templating"]["list"]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["type"] in ("stat", "timeseries")
        places = [panel["datasource"], *(target["datasource"] for target in panel["targets"]), variable["datasource"]]
        assert {place["uid"] for place in places} <= uids
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert set(re.findall(r"\$\w+", target["expr"])) <= {f"${variable['name']}"}
    boxes = [panel["gridPos"] for panel in panels]
    assert all(box["x"] >= 0 and box["w"] > 0 and box["h"] > 0 and box["x"] + box["w"] <= 24 for box in boxes)
    for one, other in combinations(boxes, 2):
        apart = [one[p] >= other[p] + other[s] or other[p] >= one[p] + one[s] for p, s in (("x", "w"), ("y", "h"))]
        assert any(apart), (one, other)


def test_promtool_finds_nothing_wrong_with_the_configuration():
    done = subprocess.run(
        [program("promtool"), "check", "config", MONITORING / "prometheus.yml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


MANY = """
import re, time, urllib.request
from sepsearch.distributed.session import ray_session
with ray_session(cpus=1, dashboard=False):
    import ray
    from sepsearch.monitoring.prometheus import Gauges
    from sepsearch.runs.state import RunState
    run = RunState()
    gauges = Gauges(run)
    def handle(event):
        run.handle(event)
        gauges.handle(event)
    settings = {"trials": 3000, "epochs": 2, "final_epochs": 2, "instruments": ["vn"]}
    handle({"event": "search", "time": time.time(), "name": "x", "space": {}, "settings": settings, "reference": "t0"})
    def epoch(id):
        members = [{"instrument": "vn", "ratio": 0.5}]
        handle({"event": "epoch", "time": time.time(), "id": id, "epoch": 1, "ratio": 0.5, "members": members})
    for number in range(3000):
        handle({"event": "trial", "time": time.time(), "id": f"t{number}", "params": {}})
        epoch(f"t{number}")
        if 2 <= number < 2999:
            end = {"state": "stopped", "reason": "stopped at rung 1", "epochs": 1}
            handle({"event": "trial_end", "time": time.time(), "id": f"t{number}", **end})
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    def live(name):
        text = urllib.request.urlopen(address, timeout=10).read().decode()
        lines = [line for line in text.splitlines() if line.startswith(name + "{")]
        return sorted(re.search('slot="(.*?)"|$', line)[1] + ":" + str(float(line.split()[-1])) for line in lines)
    wanted = ["0:0.0", "1:1.0", "2:2999.0"]
    deadline, now = time.monotonic() + 120, []
    while time.monotonic() < deadline and now != wanted:
        gauges.refresh()
        now = live("ray_sepsearch_trial_number")
        time.sleep(0.5)
    print(*now, *live("ray_sepsearch_epoch"))
"""


def test_the_last_of_thousands_of_trials_has_its_series(tmp_path, short):
    """From 1.45 on, OpenTelemetry drops what comes after the first 2,000 label sets of a gauge."""
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        env=environment(tmp_path, short),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0:0.0", "1:1.0", "2:2999.0", "0:1.0", "1:1.0", "2:1.0"]
