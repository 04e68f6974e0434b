"""Joining a Ray cluster: what can be wrong with its address or token is found in a second, and said in one line."""

import os
import socket
from pathlib import Path

from sepsearch.errors import UserError, one_line

ANSWER_SECONDS = 5.0  # Ray itself would try for minutes
TOKEN = "RAY_AUTH_TOKEN_PATH (a file) or RAY_AUTH_TOKEN, or ~/.ray/auth_token"


def require_cluster(address: str) -> None:
    """See that a cluster answers at an address ("host:port" or "auto"), and takes this process's token.

    Raises:
        UserError: nothing answers there, or it is refused.
    """
    if address.startswith("ray://"):
        raise UserError(
            f"--address {address}: Ray's client cannot run a search, expected the address of the head, such as auto or"
            " host:6379: start the search on a machine of the cluster (ray attach, ray exec or ray job submit)"
        )
    current = Path("/tmp/ray/ray_current_cluster")  # where `ray start` leaves the address that "auto" stands for
    found = os.environ.get("RAY_ADDRESS") or (current.read_text().strip() if current.exists() else "")
    target = found if address == "auto" else address
    host, _, port = target.rpartition(":")
    start = "start one with ray start --head, or leave --address out"
    if not host or not port.isdigit():
        raise UserError(f"--address {address}: no Ray cluster found ({target or 'none is known here'}): {start}")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise UserError(f"--address {address}: no Ray cluster answers at {target} ({error}): {start}") from error
    _require_token(address, target)


def _require_token(address: str, target: str) -> None:
    """Ask the head one question; `ray.init` would print half a minute of warnings, and not say that it is the token."""
    import grpc  # type: ignore[import-untyped]
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest  # type: ignore[attr-defined]
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
    from ray.exceptions import AuthenticationError

    try:
        with init_grpc_channel(target) as channel:
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=ANSWER_SECONDS)
    except (AuthenticationError, RuntimeError) as error:
        raise UserError(f"--address {address}: no token to show ({_short(error)}): set {TOKEN}") from error
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise UserError(
                f"--address {address}: the cluster refuses this process's token, expected the one it was started with:"
                f" set {TOKEN}"
            ) from error
        raise UserError(
            f"--address {address}: what answers at {target} is no head of a Ray cluster ({error.code().name.lower()}):"
            " expected the port that ray start --head has printed (6379)"
        ) from error


def _short(error: Exception) -> str:
    return one_line(error).partition(". ")[0]
