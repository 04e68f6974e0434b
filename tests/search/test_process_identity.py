"""Which process wrote something, and whether it has ended."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from sepsearch.search.process_identity import ProcessIdentity, _start_time, current_process, parse_identity


def test_an_identity_survives_its_plain_values():
    mine = current_process()
    assert parse_identity(json.dumps(mine.as_dict())) == mine
    assert not mine.has_ended()


def test_a_process_that_has_exited_has_ended():
    program = "import json; from sepsearch.search.process_identity import current_process as c; print(json.dumps(c().as_dict()))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert parse_identity(answer.stdout).has_ended()


def test_a_reused_process_number_is_another_process():
    mine = current_process()
    assert dataclasses.replace(mine, start=mine.start + 1).has_ended()


@pytest.mark.parametrize("field", ["boot", "namespace"])
def test_a_process_of_another_machine_or_container_is_never_known_to_have_ended(field):
    elsewhere = dataclasses.replace(current_process(), pid=999_999_999, start=1, **{field: "another"})
    assert not elsewhere.has_ended()


def test_an_entry_without_boot_id_is_never_known_to_have_ended():
    assert not parse_identity('{"host": "here", "pid": 999999999, "id": "x"}').has_ended()


@pytest.mark.parametrize("text", ['{"pid": "none"}', '{"host": "el', "[]", b"\xff"])
def test_a_damaged_identity_is_unknown(text):
    assert parse_identity(text) == ProcessIdentity(host="unknown", pid=0)


def test_a_zombie_has_ended():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = current_process()
    its = dataclasses.replace(mine, pid=process.pid, start=_start_time(process.pid))
    assert not its.has_ended()
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert its.has_ended()
    process.wait()
