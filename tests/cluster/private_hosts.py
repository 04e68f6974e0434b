"""Several hosts on one machine, for tests that start and stop servers of others.

`isolated()` runs a script in namespaces of its own (processes, network, mounts, names): whatever it starts ends with it,
and `ray stop` in there finds no Ray but its own. In the script, `Network.host()` makes hosts with an address, a home,
/tmp/ray and /dev/shm of their own, joined by a bridge.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ["--pid", "--net", "--mount", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
HOME = "/home/node"  # of root on every host; Python may live below the real one
LABORATORY = "10.77.0"


def isolated(script: Path, *arguments: str | Path, timeout: float) -> subprocess.CompletedProcess:
    """Run a Python script in namespaces of its own, its output captured; needs root."""
    command = ["unshare", *NAMESPACES, sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def environment(**more: str) -> dict[str, str]:
    """What a person's shell on a host has; nothing of the shell that runs the tests."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": HOME,
        "LANG": "C.UTF-8",
        "USER": "root",
        **more,
    }


class Host:
    """One host of a `Network`."""

    def __init__(self, process: subprocess.Popen, name: str, address: str, home: Path) -> None:
        self.name, self.address, self.home = name, address, home
        self._process = process
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        self._enter = ["nsenter", "--target", child, "--pid", "--net", "--mount", "--uts", "--ipc"]

    def start(self, *command: str | Path, folder: str | Path = HOME, **options) -> subprocess.Popen:
        """Start a command on the host."""
        line = [*self._enter, f"--wdns={folder}", *map(str, command)]
        return subprocess.Popen(line, **{"env": environment(), "text": True, **options})

    def run(
        self, *command: str | Path, timeout: float = 60, folder: str | Path = HOME, **options
    ) -> subprocess.CompletedProcess:
        """Run a command on the host to its end, its output captured."""
        line = [*self._enter, f"--wdns={folder}", *map(str, command)]
        settings = {"env": environment(), "capture_output": True, "text": True, "check": False, **options}
        return subprocess.run(line, timeout=timeout, **settings)

    def processes(self) -> list[str]:
        """The command lines of all processes on the host, but for the one that keeps it."""
        listed = self.run("ps", "-eo", "pid=,stat=,args=").stdout.splitlines()
        rows = [line.split(None, 2) for line in listed]
        return [
            args
            for pid, state, args in rows
            if pid != "1" and not state.startswith("Z") and not args.startswith("ps -eo")
        ]


class Network:
    """A bridge, and hosts on it. For use in an `isolated` script."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        """Hosts `names` with addresses 10.77.0.11, .12 …; `folder` holds their homes."""
        self._folder = folder
        _shell(
            f"ip link set lo up; ip link add bridge0 type bridge; ip address add {LABORATORY}.1/24 dev bridge0; ip link set bridge0 up"
        )
        users = Path("/etc/passwd").read_text().replace("root:x:0:0:root:/root:", f"root:x:0:0:root:{HOME}:")
        (folder / "passwd").write_text(users)
        addresses = {name: f"{LABORATORY}.{11 + number}" for number, name in enumerate(names)}
        table = "".join(f"{address} {name}\n" for name, address in addresses.items())
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{table}")
        self.hosts = {name: self._host(name, address) for name, address in addresses.items()}

    def _host(self, name: str, address: str) -> Host:
        home = self._folder / name
        home.mkdir()
        (home / ".bashrc").touch()
        # Signals what is set up by the file `ready`; sleeping, it keeps the namespaces.
        script = f"""set -e
            hostname {name}
            mkdir -p {HOME} /tmp/ray /run/sshd
            mount --bind {home} {HOME}
            mount --bind {self._folder}/passwd /etc/passwd
            mount --bind {self._folder}/hosts /etc/hosts
            mount -t tmpfs tmpfs /tmp/ray
            mount -t tmpfs -o size=2g tmpfs /dev/shm
            until ip link set eth0 up 2>/dev/null; do sleep 0.05; done
            ip link set lo up
            ip address add {address}/24 dev eth0
            ip route add default via {LABORATORY}.1
            touch {home}/ready
            exec sleep infinity"""
        process = subprocess.Popen(["unshare", *NAMESPACES, "bash", "-c", script])
        _shell(f'until [ -n "$(cat /proc/{process.pid}/task/{process.pid}/children)" ]; do sleep 0.05; done')
        link = f"link-{address.rpartition('.')[2]}"
        _shell(
            f"ip link add {link} type veth peer name eth0 netns {process.pid};"
            f" ip link set {link} master bridge0; ip link set {link} up;"
            f" until [ -e {home}/ready ]; do sleep 0.05; done"
        )
        return Host(process, name, address, home)


def _shell(line: str) -> None:
    subprocess.run(["bash", "-ec", line], check=True, timeout=20)


def require(*programs: str) -> None:
    """Fail with one line unless root runs the tests and these programs are there."""
    import shutil

    import pytest

    missing = [program for program in programs if not shutil.which(program, path=environment()["PATH"])]
    if missing:
        pytest.fail(
            f"needs {', '.join(missing)}: apt-get install openssh-server rsync slurm-wlm munge iproute2", pytrace=False
        )
    if os.geteuid() != 0:
        pytest.fail("needs root, for namespaces of its own: sudo make test-cluster", pytrace=False)
