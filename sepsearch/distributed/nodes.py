"""The nodes of a cluster: whether each sees the run's folder, has the same versions, and how much memory it has."""

import contextlib
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.utils.errors import UserError
from sepsearch.utils.plugins import installed_versions
from sepsearch.utils.storage import StorageFolder
from sepsearch.utils.versions import versions

if TYPE_CHECKING:
    from sepsearch.search.protocol import Workers

ALIKE = ("ray", "torch")  # packages that must be the same on every node, beside Python and sepsearch
NODE_SECONDS = 60.0  # for a node to answer
TOKEN = "token"
FILE_SECONDS = 5.0  # for a file to be seen over a network
Look = Callable[[StorageFolder, str], dict[str, Any]]


@dataclass(frozen=True)
class Node:
    """A node of the cluster that can be used.

    Args:
        name: host name and address.
        trials: how many fit on it at once.
        memory: bytes it has, and how many of them are free; None where that is unknown.
    """

    name: str
    trials: int
    memory: tuple[int, int] | None


def check_nodes(
    place: StorageFolder,
    workers: "Workers",
    look: "Look | None" = None,
    patience: float = NODE_SECONDS,
    plugins: Mapping[str, str] | None = None,
) -> list[Node]:
    """Check that every node of the cluster reads and writes at the run's place and has the versions of this process.

    Args:
        place: of the run; made for as long as this takes where it is not there.
        workers: resources of a trial.
        look: what a node runs, `look_around` by default.
        patience: seconds for a node to answer.
        plugins: versions of the distributions that the networks' families are from, which all nodes must have.

    Raises:
        UserError: a node does not answer, does not see the place, cannot write there or has other versions.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    wanted = {**versions(ALIKE), **(plugins or {})}
    alive = [node for node in ray.nodes() if node["Alive"]]
    asked: dict[Any, dict[str, Any]] = {}
    with _token(place) as (room, token):
        if look is None and [node["NodeID"] for node in alive] == [ray.get_runtime_context().get_node_id()]:
            seen = look_around(room, token)
            return [_checked(seen, alive[0], wanted, place, workers)]  # 0.7 CPU seconds less than a worker
        remote = ray.remote(num_cpus=0, max_retries=0)(look or look_around)
        for node in alive:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[remote.options(scheduling_strategy=here).remote(room, token)] = node
        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
        if late:
            raise UserError(
                f"node {_name(asked[late[0]])}: no answer within {patience:g} s, expected one of every node:"
                " repair it or take it out of the cluster (ray stop there)"
            )
        return [_checked(_answered(answer, asked[answer]), asked[answer], wanted, place, workers) for answer in done]


def _answered(answer: Any, node: dict[str, Any]) -> dict[str, Any]:
    """What a node has seen; raises `UserError` where it could not look."""
    import ray

    try:
        seen: dict[str, Any] = ray.get(answer)
    except ray.exceptions.RayError as error:
        raise UserError(
            f"node {_name(node)}: cannot run sepsearch ({death_reason(error)}):"
            " install the versions there that are here"
        ) from error
    return seen


def _checked(
    seen: dict[str, Any], node: dict[str, Any], wanted: Mapping[str, str], place: StorageFolder, workers: "Workers"
) -> Node:
    """A node, from what it has seen (`look_around`), if it has the `wanted` versions; raises `UserError` otherwise."""
    name = _name(node)
    for package, here in wanted.items():
        if (there := seen["versions"].get(package)) != here:
            raise UserError(
                f"node {name}: {package} is {there or 'not installed'}, expected {here} as here:"
                " install the same versions on every node"
            )
    if seen["problem"]:
        raise UserError(
            f"node {name}: {place} {seen['problem']}: expected a place that all nodes see: choose one with --storage"
            " (a shared folder under one path, or a URI such as s3://bucket/runs with credentials on every node)"
        )
    return Node(name, workers.fit(node["Resources"]), seen["memory"])


def death_reason(error: Exception) -> str:
    """Why a task or worker of Ray's did not answer, in one line."""
    from sepsearch.utils.errors import reason_of  # brings torch along, which a node need not import to look around

    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):  # an exception of the worker's own
        return reason_of(cause)
    if "OutOfMemory" in type(error).__name__ or "OOM" in str(error).partition("exit detail:")[0]:
        return "its worker was killed because the machine ran out of memory"
    if "exit detail:" in str(error):
        return "its worker died (out of memory, or a crash of its own)"
    return reason_of(error)


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


@contextlib.contextmanager
def _token(place: StorageFolder) -> Iterator[tuple[StorageFolder, str]]:
    """A new place below another, with a file of a random content; nothing of it is left at the end."""
    folder = place.local
    made = [path for path in (folder, *folder.parents) if not path.exists()] if folder else []
    token = secrets.token_hex(16)
    room = place / f".preflight-{token[:8]}"
    try:
        room.write(TOKEN, token.encode())
        yield room, token
    finally:
        room.remove_all()
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def look_around(room: StorageFolder, token: str) -> dict[str, Any]:
    """What a node sees: "problem" of reading the token and writing beside it ("" for none), "versions", "memory"."""
    found = {**installed_versions(), **versions(ALIKE)}
    return {"problem": _storage_problem(room, token), "versions": found, "memory": _memory()}


def _storage_problem(room: StorageFolder, token: str) -> str:
    deadline = time.monotonic() + FILE_SECONDS
    own = f"{platform.node()}-{os.getpid()}"
    try:
        while (found := room.read(TOKEN)) != token.encode():
            if time.monotonic() > deadline:
                return "is not seen there" if found is None else "is another folder there"
            time.sleep(0.2)
        room.write(own, found)
        room.remove(own)
    except UserError as error:
        return "there: " + ": ".join(str(error).split(": ")[1:3])  # without the path and what to do
    return ""


def _memory() -> tuple[int, int]:
    """Bytes of memory that this machine (or its container) has, and that are free."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    group = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            most = int((group / limit).read_text())
            free = min(free, most - int((group / used).read_text()))
            total = min(total, most)
    return total, free
