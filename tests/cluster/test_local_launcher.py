"""cluster/local.yaml for real: `ray up`, a command and `ray down` over SSH on two hosts."""

import json
from pathlib import Path

import pytest
from private_hosts import isolated, require


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> dict:
    """What local_launcher.py saw."""
    require("sshd", "rsync", "ssh", "ip", "ss", "unshare", "curl")
    done = isolated(Path(__file__).parent / "local_launcher.py", tmp_path_factory.mktemp("local"), timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_ray_up_starts_the_head_over_ssh(launched):
    assert launched["up"]["code"] == 0, launched["up"]["output"][-3000:]


def test_a_command_runs_on_the_head_and_on_the_worker_with_sepsearchs_settings(launched):
    assert launched["exec"]["code"] == 0, launched["exec"]["output"]
    (line,) = [line for line in launched["exec"]["output"].splitlines() if line.startswith("PLACES")]
    places = json.loads(line.removeprefix("PLACES"))
    assert sorted(places) == [["10.77.0.12", str(2**30)], ["10.77.0.13", str(2**30)]]


def test_the_token_reaches_every_node_for_its_user_alone_and_is_on_no_command_line(launched):
    assert launched["token_mode"] == {"head": "0o600", "worker": "0o600"}
    assert any("raylet" in line for line in launched["arguments"])
    assert not [line for line in launched["arguments"] if launched["token"].strip() in line]


def test_the_dashboard_listens_on_loopback_and_answers_with_the_token_only(launched):
    dashboards = [line.split()[3] for line in launched["listening"].splitlines() if ":8265 " in line]
    assert dashboards == ["127.0.0.1:8265"]
    assert launched["answers"].split() == ["401", "403", "200"]


def test_after_the_pages_stop_commands_no_process_of_ray_is_left(launched):
    assert launched["stop"]["code"] == 0, launched["stop"]["output"]
    assert launched["down"]["code"] == 0, launched["down"]["output"]
    assert launched["left"] == []
