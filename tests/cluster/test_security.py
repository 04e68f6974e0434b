"""Who listens where, and what answers without the token: one machine's search, MLflow's pages, a cluster's head."""

import json
from pathlib import Path
from typing import Any

import pytest
from private_hosts import isolated, require

LABORATORY = Path(__file__).with_name("security_laboratory.py")
PAGE = Path(__file__).parents[2] / "cluster" / "security.md"
METRICS = {8090: "metrics export", 44217: "autoscaler's metrics", 44227: "dashboard's metrics"}


def laboratory(*arguments: str | Path) -> dict[str, Any]:
    require("unshare", "ip")
    done = isolated(LABORATORY, *arguments, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def alone(tree, tmp_path_factory) -> dict[str, Any]:
    return laboratory("alone", tmp_path_factory.mktemp("alone") / "x", tree)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> dict[str, Any]:
    return laboratory("cluster", tmp_path_factory.mktemp("cluster") / "x")


def test_from_its_start_to_its_end_a_search_on_one_machine_listens_on_loopback_only(alone):
    assert alone["status"] == 0, alone["output"]
    assert alone["control"], "a listener beyond loopback would not have been seen"
    assert alone["loopback"] > 5  # Ray was there
    assert alone["open"] == []


def test_mlflows_pages_as_make_ui_starts_them_listen_on_loopback_only(alone):
    assert alone["ui"] == {"listens": True, "open": []}


def test_a_searchs_token_is_the_users_alone_and_in_no_command_line_log_or_file_of_the_run(alone):
    assert alone["token"] == 64
    assert alone["mode"] == 0o600
    assert alone["command_lines"] == 0
    assert alone["looked_at"] > 50
    assert alone["files"] == []


@pytest.mark.parametrize("token", ["none", "wrong"])
def test_a_head_refuses_a_driver_without_its_token(cluster, token):
    assert cluster["started"] == ""
    status, output = cluster["drivers"][token]
    assert status != 0
    assert "in 1.0" not in output
    assert "UserError" in output
    status, output = cluster["drivers"]["right"]
    assert status == 0, output
    assert "in 1.0" in output


@pytest.mark.parametrize("what", ["dashboard", "nodes", "jobs", "agent"])
def test_dashboard_and_agents_refuse_whoever_has_no_token(cluster, what):
    answers = cluster["http"][what]
    assert (answers["none"], answers["wrong"]) == (401, 403)
    assert answers["right"] == 200


def test_no_grpc_service_answers_without_the_token(cluster):
    for method, answers in cluster["grpc"].items():
        for token in ("none", "wrong"):
            assert "OK" not in answers[token], (method, token)
            # Every port that knows the service asks for the token first; all others do not know it.
            assert set(answers[token]) <= {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE", "INTERNAL", "UNKNOWN"}, (
                method
            )
    known = {method for method, answers in cluster["grpc"].items() if "UNAUTHENTICATED" in answers["none"]}
    assert {method.split("/")[1].rpartition(".")[2] for method in known} >= {
        "NodeInfoGcsService",
        "InternalKVGcsService",
        "RayletDriver",
        "NodeManagerService",
        "ObjectManagerService",
        "ReporterService",
    }


def test_only_the_metrics_that_the_page_names_can_be_read_without_the_token(cluster):
    assert cluster["control"]
    assert set(cluster["readable"]) == set(METRICS)
    text = PAGE.read_text()
    for port in (*METRICS, 6379, 8265, 10001, 52365):
        assert f"| {port} " in text


def test_a_heads_token_is_in_no_command_line_and_no_log(cluster):
    assert cluster["command_lines"] == 0
    assert cluster["looked_at"] > 10
    assert cluster["files"] == []
