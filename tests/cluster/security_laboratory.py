"""What test_security.py runs in namespaces of its own: a search, a cluster's head; prints what it saw as JSON.

`alone FOLDER TREE` searches as a person does on one machine; `cluster FOLDER` starts a head and asks all its ports.
"""

import ipaddress
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "10.78.0.1"
LISTENING, BOUND_UDP = "0A", "07"
SPACE = """
parameters: {filters: 4, learning_rate: {low: 1e-3, high: 1e-2, log: true}}
front_end: {clip_seconds: 1.0}
search: {trials: 2, epochs: 1, examples_per_epoch: 32, validation_examples: 16, startup_trials: 2}
final: {configurations: 1, seeds: 1, epochs: 1}
"""
# What a stranger would ask for, by its answer to whom it knows: gRPC methods that need no more than an empty message.
METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.CoreWorkerService/NumPendingTasks",
)


def listeners() -> dict[tuple[str, int], str]:
    """Address and port of everything that listens in this network namespace → tcp or udp."""
    found = {}
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == (LISTENING if name.startswith("tcp") else BOUND_UDP):
                address, port = local.split(":")
                words = [bytes.fromhex(address[k : k + 8])[::-1] for k in range(0, len(address), 8)]
                ip = ipaddress.ip_address(b"".join(words))
                ip = getattr(ip, "ipv4_mapped", None) or ip
                found[str(ip), int(port, 16)] = name[:3]
    return found


def beyond_loopback() -> set[str]:
    return {
        f"{kind} {ip}:{port}" for (ip, port), kind in listeners().items() if not ipaddress.ip_address(ip).is_loopback
    }


def in_command_lines(secret: str) -> int:
    """In how many processes' arguments a secret stands."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return sum(secret.encode() in line for line in lines)


def in_files(secret: str, *folders: Path) -> tuple[list[str], int]:
    """Files that hold a secret, and how many were looked at."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if secret.encode() in path.read_bytes()], len(files)


def own_world(folder: Path) -> None:
    """An address beyond loopback; Ray's folder, memory and home that nobody else has."""
    lines = [
        "mkdir -p /tmp/ray",
        "mount -t tmpfs tmpfs /tmp/ray",
        "mount -t tmpfs -o size=2g tmpfs /dev/shm",
        "ip link set lo up",
        "ip link add one type veth peer name other",
        f"ip address add {ADDRESS}/24 dev one",
        "ip link set one up",
        "ip link set other up",
    ]
    subprocess.run(["bash", "-ec", "\n".join(lines)], check=True, timeout=20)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, HOME=str(folder / "home"), SEPSEARCH_CACHE=str(folder / "cache"))
    (folder / "home").mkdir()


def watch(process: subprocess.Popen, look: Callable[[], Any]) -> None:
    """Look again and again until a process has ended."""
    while process.poll() is None:
        look()
        time.sleep(0.2)


def control() -> bool:
    """Whether a listener beyond loopback would be seen at all."""
    with socket.create_server((ADDRESS, 0)) as open_to_all:
        return f"tcp {ADDRESS}:{open_to_all.getsockname()[1]}" in beyond_loopback()


def alone(folder: Path, tree: Path) -> dict[str, Any]:
    own_world(folder)
    seen: dict[str, Any] = {"control": control(), "open": set(), "loopback": 0, "command_lines": 0}
    token_file = folder / "home" / ".ray" / "auth_token"

    def look() -> None:
        seen["open"] |= beyond_loopback()
        seen["loopback"] = max(seen["loopback"], len(listeners()))
        if token_file.exists():
            seen["command_lines"] += in_command_lines(token_file.read_text())

    (folder / "space.yaml").write_text(SPACE)
    options = ["--space", "space.yaml", "--data", str(tree), "--instruments", "vn,vc", "--name", "x", "--workers", "1"]
    with (folder / "output.txt").open("w") as output:
        command = [sys.executable, "-m", "sepsearch.run", *options]
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        watch(process, look)
    token = token_file.read_text()
    files, count = in_files(token, folder / "runs", folder / "cache", folder / "mlartifacts", Path("/tmp/ray"))
    for name in ("mlflow.db", "output.txt"):
        files += [name] if token.encode() in (folder / name).read_bytes() else []
    seen |= {
        "status": process.returncode,
        "output": (folder / "output.txt").read_text(),
        "files": files,
        "looked_at": count,
    }
    seen |= {"token": len(token), "mode": token_file.stat().st_mode & 0o777, "ui": pages(folder)}
    return seen | {"open": sorted(seen["open"])}


def pages(folder: Path) -> dict[str, Any]:
    """What listens when MLflow's pages are started as `make ui` starts them."""
    (line,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if "sepsearch.ui" in line)
    words = line.strip().replace("$(BIN)/python", sys.executable).replace("$(PORT)", "5000").split()
    words.append("--no-open")
    with (folder / "ui.txt").open("w") as output:
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    opened, deadline = set(), time.monotonic() + 600
    while ("127.0.0.1", 5000) not in listeners() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    for _ in range(20):
        opened |= beyond_loopback()
        time.sleep(0.2)
    found = ("127.0.0.1", 5000) in listeners()
    os.killpg(process.pid, 9)
    return {"listens": found, "open": sorted(opened)}


def asked(url: str, token: str | None, data: bytes | None = None) -> int:
    """The status of an answer over HTTP; 0 for none."""
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError) as error:
        return 0 if "timed out" not in str(error) else -1
    except Exception:  # an answer that is no HTTP
        return 0


def called(target: str, method: str, token: str | None) -> str:
    """The status of a gRPC call."""
    import grpc

    with grpc.insecure_channel(target) as channel:
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            channel.unary_unary(method)(b"", timeout=5, metadata=metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def driver(token: str | None) -> tuple[int, str]:
    """A search's own way into a cluster, with a token."""
    script = "import sys; from sepsearch.distributed.session import ray_session\nwith ray_session(sys.argv[1]) as s: print('in', s.cpus)"
    more = {"RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", script, f"{ADDRESS}:6379"]
    done = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, done.stdout + done.stderr


def cluster(folder: Path) -> dict[str, Any]:
    own_world(folder)
    token, wrong = secrets.token_hex(32), secrets.token_hex(32)
    token_file = folder / "home" / ".ray" / "auth_token"
    token_file.parent.mkdir(mode=0o700)
    token_file.touch(0o600)
    token_file.write_text(token)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    ray = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--node-ip-address",
        ADDRESS,
        "--num-cpus",
        "1",
    ]
    ray += ["--port", "6379", "--dashboard-host", "127.0.0.1", "--metrics-export-port", "8090"]
    started = subprocess.run(ray, capture_output=True, text=True, timeout=300, check=False)
    if started.returncode:
        return {"started": started.stdout + started.stderr}
    deadline = time.monotonic() + 120
    while asked(f"http://{ADDRESS}:52365/api/local_raylet_healthz", None) != 200 and time.monotonic() < deadline:
        time.sleep(0.5)
    tokens = {"none": None, "wrong": wrong, "right": token}
    seen: dict[str, Any] = {"control": control(), "started": "", "drivers": {n: driver(t) for n, t in tokens.items()}}
    job = json.dumps({"entrypoint": f"touch {folder}/ran-$(id -u)"}).encode()
    urls = {
        "dashboard": ("http://127.0.0.1:8265/api/version", None),
        "nodes": ("http://127.0.0.1:8265/nodes?view=summary", None),
        "jobs": ("http://127.0.0.1:8265/api/jobs/", job),
        "agent": (f"http://{ADDRESS}:52365/api/job_agent/jobs/", job),
    }
    seen["http"] = {name: {n: asked(url, t, data) for n, t in tokens.items()} for name, (url, data) in urls.items()}
    reachable = sorted(
        {port for (ip, port), kind in listeners().items() if kind == "tcp" and ip in ("::", "0.0.0.0", ADDRESS)}
    )
    seen["reachable"] = reachable
    seen["readable"] = [port for port in reachable if asked(f"http://{ADDRESS}:{port}/metrics", None) == 200]
    seen["grpc"] = {
        method: {n: sorted({called(f"{ADDRESS}:{port}", method, t) for port in reachable}) for n, t in tokens.items()}
        for method in METHODS
    }
    seen["command_lines"] = in_command_lines(token)
    seen["files"], seen["looked_at"] = in_files(token, Path("/tmp/ray"))
    return seen


if __name__ == "__main__":
    what, folder, *rest = sys.argv[1:]
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    print(json.dumps(alone(Path(folder), Path(rest[0])) if what == "alone" else cluster(Path(folder))))
