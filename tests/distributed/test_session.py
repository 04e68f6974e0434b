"""Ray as it is started here: loopback only, with a token, quiet; how many trials fit."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sepsearch.distributed.session import Session
from sepsearch.search.protocol import Workers
from sepsearch.utils.errors import UserError

SCRIPT = """
import os, sys, psutil
from sepsearch.distributed.session import ray_session
with ray_session(cpus=1) as session:
    import ray
    ours = {process.pid for process in psutil.Process().children(recursive=True)} | {psutil.Process().pid}
    listening = [c.laddr.ip.removeprefix('::ffff:') for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in ours]
    print(session.dashboard, sorted(set(listening)))
    names = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "MALLOC_ARENA_MAX"
    worker = ray.remote(lambda: (os.nice(0), *(os.environ[name] for name in names)))
    print("worker:", os.nice(0), *ray.get(worker.remote()))
    import urllib.request, urllib.error
    try:
        urllib.request.urlopen(session.dashboard + "/api/jobs/", timeout=20)
    except urllib.error.HTTPError as error:
        print("without a token:", error.code)
"""

DASHBOARD = """
import urllib.request, urllib.error
import psutil
from sepsearch.distributed.session import ray_session
def dashboards():
    commands = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    return sum("dashboard/dashboard.py" in command for command in commands)
with ray_session(cpus=1, dashboard=False) as session:
    from sepsearch.distributed.ray_internals import start_dashboard
    print("at first:", repr(session.dashboard), dashboards())
    address = start_dashboard()
    try:
        urllib.request.urlopen(f"http://{address}/api/jobs/", timeout=20)
    except urllib.error.HTTPError as error:
        print("later:", address, dashboards(), error.code)
print("in the end:", dashboards())
"""


def test_one_trial_fits_each_cpu_and_quarters_of_a_gpu_are_the_default():
    assert Session("", cpus=2, gpus=0).workers(1, None, None) == Workers(2, 1, 0)
    assert Session("", cpus=16, gpus=1).workers(1, None, None) == Workers(4, 1, 0.25)
    assert Session("", cpus=16, gpus=2).workers(2, 0.125, None) == Workers(8, 2, 0.125)


def test_no_more_trials_at_once_than_asked_for():
    assert Session("", cpus=8, gpus=0).workers(1, None, 3).concurrent == 3


def test_a_trial_that_fits_nowhere_is_an_error_that_says_what_is_there():
    with pytest.raises(UserError, match="needs 1 CPUs and 1 GPUs, found 2 and 0"):
        Session("", cpus=2, gpus=0).workers(1, 1.0, None)


def run_script(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run it with a home folder of its own and none of Ray's settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))} | {"HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_local_ray_listens_on_loopback_only_asks_for_a_token_and_is_silent(tmp_path):
    done = run_script(SCRIPT, tmp_path)
    assert re.match(r"http://127\.0\.0\.1:\d+ \['127\.0\.0\.1'\]", done.stdout), done.stdout + done.stderr
    niceness = os.nice(0)
    assert f"worker: {niceness} {niceness} 128 1" in done.stdout  # Ray's own default for workers is 15 more
    assert "without a token: 401" in done.stdout
    assert done.stderr == ""
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


LATE = """
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.distributed.session import ray_session
def late(*arguments, **options):
    raise Exception("The current node timed out during startup.\\nThis could happen because of many things")
def start():
    import ray
    ray.init = late
    with ray_session():
        pass
exit_on_user_error(start)
"""


def test_a_ray_that_does_not_start_in_time_is_one_line(tmp_path):
    done = run_script(LATE, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: Ray did not start on this machine: The current node timed out during startup."
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_no_cluster_at_an_address_is_one_line(address):
    code = f"from sepsearch.utils.errors import exit_on_user_error as e\nfrom sepsearch.distributed.session import ray_session\ndef f():\n    with ray_session({address!r}): pass\ne(f)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --address {address}: no Ray cluster")
    assert done.stderr.count("\n") == 1


def test_the_dashboard_of_a_local_ray_can_be_started_later_and_ends_with_it(tmp_path):
    done = run_script(DASHBOARD, tmp_path)
    assert re.fullmatch(r"at first: '' 0\nlater: 127\.0\.0\.1:\d+ 1 401\nin the end: 0\n", done.stdout), (
        done.stdout + done.stderr
    )
