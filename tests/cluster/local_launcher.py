"""Run by test_local_launcher.py in namespaces of its own: cluster/local.yaml on three hosts with real sshds.

Prints one JSON object: what `ray up`, `ray exec` and `ray down` did.
"""

import hashlib
import json
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml
from private_hosts import HOME, ROOT, Host, Network, environment

RAY = ROOT / ".venv" / "bin" / "ray"
CHECK = """
import json, os, time
import ray
ray.init(address="auto", log_to_driver=False, logging_level="error")
deadline = time.monotonic() + 90
while sum(node["Alive"] for node in ray.nodes()) < 2 and time.monotonic() < deadline:
    time.sleep(0.5)

@ray.remote(num_cpus=1)
def where():
    return ray.util.get_node_ip_address(), os.environ.get("MALLOC_TRIM_THRESHOLD_", "")

strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
places = [ray.get(where.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote()) for node in ray.nodes()]
print("PLACES", json.dumps(places))
"""


def prepare_node(host: Host, key: str) -> None:
    """A host with an sshd, and Python packages as if they had been installed by an earlier `ray up`."""
    ssh = host.home / "ssh"
    ssh.mkdir()
    (ssh / "authorized_keys").write_text(key)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "host_key"], check=True)
    (ssh / "config").write_text(
        f"HostKey {HOME}/ssh/host_key\nAuthorizedKeysFile {HOME}/ssh/authorized_keys\nPidFile {HOME}/ssh/pid\n"
        "PasswordAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n"
    )
    installed = host.home / "sepsearch" / ".venv"
    installed.mkdir(parents=True)
    for part in ("bin", "lib", "pyvenv.cfg"):
        (installed / part).symlink_to(ROOT / ".venv" / part)
    content = b"".join(
        (ROOT / name).read_bytes() for name in ("constraints.txt", "pyproject.toml", "cluster/setup-node.sh")
    )
    (installed / ".node").write_text(hashlib.sha256(content + b"\n").hexdigest() + "\n")
    host.start("/usr/sbin/sshd", "-f", f"{HOME}/ssh/config", stdin=subprocess.DEVNULL)


def configuration(network: Network) -> dict:
    """cluster/local.yaml; only what it marks as yours is replaced."""
    config = yaml.safe_load((ROOT / "cluster" / "local.yaml").read_text())
    config["provider"].update(head_ip=network.hosts["head"].address, worker_ips=[network.hosts["worker"].address])
    config["auth"].update(ssh_user="root", ssh_private_key="~/.ssh/id_ed25519")
    return config


def main(folder: Path) -> None:
    """Up, a command, down."""
    network = Network(folder, ["laptop", "head", "worker"])
    laptop, head, worker = network.hosts.values()
    (laptop.home / ".ssh").mkdir(mode=0o700)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", laptop.home / ".ssh" / "id_ed25519"], check=True
    )
    for host in (head, worker):
        prepare_node(host, (laptop.home / ".ssh" / "id_ed25519.pub").read_text())
    laptop.run("bash", "-c", f"umask 077; {RAY} get-auth-token --generate >/dev/null", check=True)
    (folder / "local.yaml").write_text(yaml.safe_dump(configuration(network)))
    (folder / "check.py").write_text(CHECK)
    shutil.copy(folder / "check.py", head.home)

    def ray(*arguments: str, timeout: float = 200) -> dict:
        # A person's terminal: ssh, which Ray calls with -tt, waits for ever where its input has ended.
        _, terminal = pty.openpty()
        done = laptop.run(RAY, *arguments, folder=ROOT, timeout=timeout, env=environment(TERM="dumb"), stdin=terminal)
        return {"code": done.returncode, "output": done.stdout + done.stderr}

    config = str(folder / "local.yaml")
    out: dict = {"up": ray("up", "-y", "--no-config-cache", config)}
    out["exec"] = ray("exec", "--no-config-cache", config, "sepsearch/cluster/on-node.sh python ~/check.py")
    out["listening"] = head.run("ss", "-Htln").stdout
    out["token_mode"] = {
        host.name: oct(path.stat().st_mode & 0o777)
        for host in (head, worker)
        if (path := host.home / ".ray" / "auth_token").exists()
    }
    out["token"] = (laptop.home / ".ray" / "auth_token").read_text()
    out["arguments"] = [*head.processes(), *worker.processes()]
    ask = "curl -s -o /dev/null -w '%{http_code} ' http://127.0.0.1:8265/api/cluster_status"
    out["answers"] = head.run(
        "bash",
        "-c",
        f'{ask}; {ask} -H "Authorization: Bearer guess"; {ask} -H @<(echo "Authorization: Bearer $(<~/.ray/auth_token)")',
    ).stdout
    reach = "ssh -i ~/.ssh/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no"
    stopped = laptop.run("bash", "-c", f"{reach} root@{worker.address} sepsearch/cluster/on-node.sh ray stop")
    out["stop"] = {"code": stopped.returncode, "output": stopped.stdout + stopped.stderr}
    out["down"] = ray("down", "-y", config)
    # What Ray's stop leaves over ends by itself once it has missed Ray's head for a minute.
    deadline = time.monotonic() + 240
    left = ["not looked yet"]
    while left and time.monotonic() < deadline:
        time.sleep(1)
        left = [line for host in (head, worker) for line in host.processes() if "ray" in line and "sshd" not in line]
    out["left"] = left
    print("\n" + json.dumps(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
