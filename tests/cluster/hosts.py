"""Hosts on one machine: network namespaces on a switch, each with its own address, name, processes, /tmp/ray and memory.

Needs root and iproute2. Everything that runs on a host ends with it.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NETWORK = "10.77.0"
BIN = Path(sys.executable).parent


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Host:
    """A host of a network. `folder` is the one folder that is its own; all others are the machine's."""

    def __init__(self, switch: str, number: int, name: str, environment: dict[str, str], hidden: Path | None):
        self.name, self.address = name, f"{NETWORK}.{number}"
        self.space, self._switch = f"{switch}-{number}", switch
        self._port = f"p{number}"
        self._environment = environment
        self._running: list[subprocess.Popen] = []
        ip("netns", "add", self.space)
        ip("-n", self.space, "link", "set", "lo", "up")
        ip("-n", switch, "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("-n", switch, "link", "set", self._port, "master", "br0", "up")
        ip("-n", self.space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.space, "link", "set", "eth0", "up")
        mounts = ["/tmp/ray", "/dev/shm", *([str(hidden)] if hidden else [])]
        script = f"hostname {name}; " + "; ".join(f"mount -t tmpfs none {path}" for path in mounts)
        Path("/tmp/ray").mkdir(exist_ok=True)
        # The first process of the host: all others join its namespaces and end with it.
        self._init = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                self.space,
                "unshare",
                "--mount",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                f"{script}; echo ready; exec sleep infinity",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == "ready\n"

    def start(self, words: list[str], log: Path, cwd: Path | None = None, **more: str) -> subprocess.Popen:
        """Start a process on the host; its output goes to a file."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                self._inside(words, cwd),
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**self._environment, **more},
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def run(
        self, words: list[str], timeout: float, cwd: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess:
        """Run a process on the host to its end."""
        return subprocess.run(
            self._inside(words, cwd), capture_output=True, text=True, timeout=timeout, env={**self._environment, **more}
        )

    def _inside(self, words: list[str], cwd: Path | None) -> list[str]:
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        place = ["--mount", "--uts", "--pid", "--net", f"--wdns={cwd or '/'}"]
        return ["nsenter", "--target", children[0], *place, "--", *words]

    def cut_off(self) -> None:
        """Pull the plug of its network; its processes go on."""
        ip("-n", self._switch, "link", "set", self._port, "down")

    def received(self) -> int:
        """Bytes that have come over the network so far."""
        path = "/sys/class/net/eth0/statistics/rx_bytes"
        done = subprocess.run(
            ["ip", "netns", "exec", self.space, "cat", path], capture_output=True, check=True, text=True
        )
        return int(done.stdout)

    def close(self) -> None:
        """End all its processes, and remove it."""
        self._init.send_signal(signal.SIGKILL)
        self._init.wait()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        subprocess.run(["ip", "netns", "del", self.space], capture_output=True)


class Network:
    """Hosts that reach one another, and nobody else."""

    def __init__(self, environment: dict[str, str]):
        for program, package in {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}.items():
            assert shutil.which(program), f"{program} is missing: apt-get install {package}"
        assert os.geteuid() == 0, "hosts are network namespaces: run as root"
        self._environment = environment
        self._switch = f"sepsearch-{secrets.token_hex(3)}"
        self.hosts: list[Host] = []
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self._switch, "link", "set", "br0", "up")

    def add(self, name: str, hidden: Path | None = None) -> Host:
        """Another host. `hidden` is a folder of the machine that is another, empty one there."""
        host = Host(self._switch, len(self.hosts) + 1, name, self._environment, hidden)
        self.hosts.append(host)
        return host

    def close(self) -> None:
        """Remove all hosts."""
        for host in self.hosts:
            host.close()
        subprocess.run(["ip", "netns", "del", self._switch], capture_output=True)


@contextlib.contextmanager
def network(environment: dict[str, str]) -> Iterator[Network]:
    """A network that is gone at the end, whatever happens."""
    made = Network(environment)
    try:
        yield made
    finally:
        made.close()


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something to happen; fail with `what` if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"within {seconds:g} s: {what}"
        time.sleep(0.2)
