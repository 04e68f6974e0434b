"""Run by test_slurm.py in namespaces of its own: Slurm on two hosts, and cluster/slurm.sbatch in it.

Prints one JSON object: by scenario the job's state, exit code and log, and what it left running.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from private_hosts import ROOT, Network, environment

VENV = ROOT / ".venv"
WORK = """
import json, os, sys, time
import ray
ray.init(address="auto", log_to_driver=False, logging_level="error")
shown = open("/proc/self/environ").read()
print("NODES", json.dumps([node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]]))
print("MODE", os.environ["RAY_AUTH_MODE"], oct(os.stat(os.environ["RAY_AUTH_TOKEN_PATH"]).st_mode & 0o777))

@ray.remote(num_cpus=1)
def where():
    return os.uname().nodename

print("RAN", sorted({ray.get(where.options(resources={f"node:{node['NodeManagerAddress']}": 0.01}).remote()) for node in ray.nodes()}))
token = open(os.environ["RAY_AUTH_TOKEN_PATH"]).read()
print("TOKEN", token, flush=True)
time.sleep(float(sys.argv[1]))
"""


class Slurm:
    """A controller and two nodes, each on a host of its own."""

    def __init__(self, folder: Path) -> None:
        """Everything Slurm writes is below `folder`, which all hosts see."""
        self.folder, self.network = folder, Network(folder, ["control", "n1", "n2"])
        self.control, self.first, self.second = self.network.hosts.values()
        self.work = folder / "work"
        self.work.mkdir()
        (self.work / "work.py").write_text(WORK)
        (folder / "slurm").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        nodes = "\n".join(
            f"NodeName={h.name} NodeAddr={h.address} CPUs=2 RealMemory=2000 Gres=gpu:1 State=UNKNOWN"
            for h in (self.first, self.second)
        )
        (folder / "slurm.conf").write_text(
            f"ClusterName=test\nSlurmctldHost=control({self.control.address})\nSlurmUser=root\nSlurmdUser=root\n"
            f"AuthType=auth/munge\nCredType=cred/munge\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
            f"SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nReturnToService=2\nMpiDefault=none\nGresTypes=gpu\n"
            f"StateSaveLocation={folder}/slurm/state\nSlurmdSpoolDir={folder}/slurm/spool-%n\nSlurmctldPidFile={folder}/slurm/ctld.pid\n"
            f"SlurmdPidFile={folder}/slurm/%n.pid\nSlurmctldLogFile={folder}/slurm/ctld.log\nSlurmdLogFile={folder}/slurm/%n.log\n"
            f"KillWait=10\nInactiveLimit=0\nMinJobAge=600\n{nodes}\nPartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
        )
        (folder / "gres.conf").write_text("Name=gpu File=/dev/zero\n")
        self.env = environment(
            SLURM_CONF=str(folder / "slurm.conf"), SEPSEARCH_VENV=str(VENV), RAY_memory_monitor_refresh_ms="0"
        )
        for host in self.network.hosts.values():
            host.run("bash", "-ec", "mkdir -p /run/munge; mount -t tmpfs -o mode=755 tmpfs /run/munge", check=True)
            host.run(
                "/usr/sbin/munged",
                "--force",
                f"--key-file={key}",
                "--log-file=/run/munge/log",
                "--pid-file=/run/munge/pid",
                "--seed-file=/run/munge/seed",
                "--socket=/run/munge/munge.socket.2",
                check=True,
            )
        self.control.start(
            "/usr/sbin/slurmctld", "-D", env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for host in (self.first, self.second):
            host.start(
                "/usr/sbin/slurmd",
                "-D",
                "-N",
                host.name,
                env=self.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.wait(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2", 60)

    def ask(self, *command: str) -> str:
        """Output of a command of Slurm."""
        return self.control.run(*command, env=self.env, folder=self.work).stdout

    def wait(self, found, seconds: float) -> None:
        """Until `found()`; gives up after `seconds`."""
        deadline = time.monotonic() + seconds
        while not found() and time.monotonic() < deadline:
            time.sleep(0.3)

    def submit(self, *arguments: str, options: tuple[str, ...] = (), **variables: str) -> str:
        """Hand the script in as it is; returns the job's number."""
        line = [
            "sbatch",
            "--parsable",
            "--cpus-per-task=1",
            *options,
            str(ROOT / "cluster" / "slurm.sbatch"),
            *arguments,
        ]
        done = self.control.run(*line, env={**self.env, **variables}, folder=self.work)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def log(self, job: str) -> str:
        """What the job has written so far."""
        path = self.work / f"sepsearch-{job}.log"
        return path.read_text() if path.exists() else ""

    def end(self, job: str, seconds: float = 120) -> dict:
        """Wait for the job's end; its state, exit code, log, and what is left of it."""
        self.wait(lambda: self.ended(job), seconds)
        facts = self.show(job)
        left = ["not looked yet"]
        deadline = time.monotonic() + 20
        while left and time.monotonic() < deadline:
            left = [
                line
                for host in (self.first, self.second)
                for line in host.processes()
                if not re.search(r"munged|slurmd -D|slurmstepd infinity", line)
            ]
            time.sleep(0.5)
        files = sorted(str(path.name) for path in self.work.iterdir() if path.name.startswith("."))
        temporary = "".join(
            host.run("bash", "-c", "ls -d /tmp/sepsearch-[0-9]* 2>/dev/null").stdout
            for host in (self.first, self.second)
        )
        state = re.search(r"JobState=(\S+)", facts)[1]
        return {
            "state": state,
            "exit": re.search(r" ExitCode=(\S+)", facts)[1],
            "log": self.log(job),
            "left": left,
            "files": files,
            "temporary": temporary,
        }

    def ended(self, job: str) -> bool:
        """Whether the job has come to any end."""
        return bool(re.search("JobState=(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)", self.show(job)))

    def show(self, job: str) -> str:
        """What Slurm says of a job."""
        return self.ask("scontrol", "show", "job", job)


def main(folder: Path, wanted: list[str]) -> None:
    """All scenarios, or the wanted ones."""
    slurm = Slurm(folder)
    cpu = ("--gpus-per-node=0",)
    work = f"python {slurm.work}/work.py"
    out: dict = {"sinfo": slurm.ask("sinfo")}

    def scenario(name: str, run) -> None:
        if not wanted or name in wanted:
            out[name] = run()

    def running(job: str) -> dict:
        slurm.wait(lambda: "TOKEN" in slurm.log(job) or slurm.ended(job), 120)
        lines = [line for host in (slurm.first, slurm.second) for line in host.processes()]
        return {"arguments": lines}

    def cancelled() -> dict:
        job = slurm.submit(options=cpu, SEPSEARCH_COMMAND=f"{work} 600")
        seen = running(job)
        slurm.ask("scancel", job)
        return {**slurm.end(job), **seen}

    scenario("finished", lambda: slurm.end(slurm.submit(options=cpu, SEPSEARCH_COMMAND=f"{work} 0")))
    scenario("cancelled", cancelled)

    def warned() -> dict:
        waits = "trap 'echo the search ends cleanly; exit 130' TERM; echo TOKEN; while :; do sleep 0.1; done"
        job = slurm.submit(options=cpu, SEPSEARCH_COMMAND=waits)
        running(job)
        slurm.ask("scancel", "--batch", "--signal=USR1", job)  # what --signal=B:USR1@180 does before the time limit
        return slurm.end(job)

    scenario("warned", warned)
    scenario("failed", lambda: slurm.end(slurm.submit(options=cpu, SEPSEARCH_COMMAND="echo about to fail; exit 7")))
    scenario("no_gpu", lambda: slurm.end(slurm.submit(SEPSEARCH_COMMAND="true")))
    scenario(
        "no_venv", lambda: slurm.end(slurm.submit(options=cpu, SEPSEARCH_COMMAND="true", SEPSEARCH_VENV="/nowhere"))
    )
    scenario("no_storage", lambda: slurm.end(slurm.submit("--name", "x", options=cpu)))
    scenario("not_shared", lambda: slurm.end(slurm.submit("--storage", "/tmp/ray/runs", options=cpu)))
    scenario("no_options", lambda: slurm.end(slurm.submit(options=cpu)))

    def port_taken() -> dict:
        listener = slurm.first.start(
            sys.executable, "-c", "import socket, time; s = socket.create_server(('', 7777)); time.sleep(600)"
        )
        time.sleep(1)
        job = slurm.submit(options=cpu, SEPSEARCH_COMMAND="true", SEPSEARCH_PORT="7777")
        slurm.wait(lambda: slurm.ended(job), 60)
        listener.kill()
        slurm.first.run("pkill", "-f", "create_server")
        return slurm.end(job)

    scenario("port_taken", port_taken)
    print("\n" + json.dumps(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
