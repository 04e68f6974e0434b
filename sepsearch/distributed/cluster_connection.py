"""Joining a Ray cluster: what can be wrong with its address or token is found in a second, and said in one line."""

import errno
import os
import pwd
import socket
import stat
from pathlib import Path

from sepsearch.distributed.ray_internals import address_file, ask_cluster_id, own_clusters
from sepsearch.utils.errors import UserError, one_line

ANSWER_SECONDS = 5.0  # Ray itself would try for minutes
TOKEN = "RAY_AUTH_TOKEN_PATH (a file) or RAY_AUTH_TOKEN, or ~/.ray/auth_token"
LONGEST_ADDRESS = 255  # bytes that are read of the file with a cluster's address


def require_cluster(address: str) -> str:
    """See that a cluster answers at an address ("host:port" or "auto"), and takes this process's token.

    Returns:
        The cluster's "host:port". Give this to Ray, which for "auto" would read its file again, unchecked.

    Raises:
        UserError: nothing answers there, it is refused, or another user may have written the address of "auto".
    """
    if address.startswith("ray://"):
        raise UserError(
            f"--address {address}: Ray's client cannot run a search, expected the address of the head, such as auto or"
            " host:6379: start the search on a machine of the cluster (ray attach, ray exec or ray job submit)"
        )
    target = address if address != "auto" else os.environ.get("RAY_ADDRESS") or _started_here()
    host, _, port = target.rpartition(":")
    start = "start one with ray start --head, or leave --address out"
    if not host or not port.isdigit():
        raise UserError(f"--address {address}: no Ray cluster found ({target or 'none is known here'}): {start}")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"--address {address}: no Ray cluster answers at {target} ({error}): {start}") from error
    _require_token(address, target)
    return target


def _started_here() -> str:
    """The address that `ray start` has left on this machine; "" for none.

    A user who can write that file gets the token of those who join. `ray start` leaves its folder writable for all, so
    that even a file of one's own may have been exchanged for an older one. Where file and folder are open to others the
    address counts only if a raylet of one's own runs in that cluster.

    Raises:
        UserError: another user may have written it.
    """
    path = address_file()
    try:
        address, doubt = _read_address(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        linked = error.errno in (errno.ELOOP, errno.ENOTDIR)
        address = ""
        doubt = f"{path} " + ("leads through a symbolic link" if linked else f"cannot be read ({error.strerror})")
    if doubt and address not in own_clusters(os.getuid()):
        raise UserError(
            f"--address auto: {doubt}, expected a file of yours or root's that no other user can change, for its writer"
            " gets the cluster's token: give the address that ray start has printed, such as --address 10.0.0.1:6379"
        )
    return address


def _read_address(path: Path) -> tuple[str, str]:
    """The text of a file, and why another user may have written it; "" if only this user and root can."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # What is looked at is what is read, whatever is renamed meanwhile. NONBLOCK: it may be a pipe.
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                return "", f"{path} is no regular file"
            text = file.read(LONGEST_ADDRESS).decode("ascii", "replace").strip()
        return text, _doubt(path, facts) or _doubt(path.parent, os.fstat(folder))
    finally:
        os.close(folder)


def _doubt(path: Path, facts: os.stat_result) -> str:
    if facts.st_uid not in (0, os.getuid()):
        return f"{path} belongs to {_user_name(facts.st_uid)}"
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} of {_user_name(facts.st_uid)} can be written by others (mode {stat.S_IMODE(facts.st_mode):o})"
    return ""


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _require_token(address: str, target: str) -> None:
    """Ask the head one question; `ray.init` would print half a minute of warnings, and not say that it is the token."""
    import grpc  # type: ignore[import-untyped]

    try:
        ask_cluster_id(target, ANSWER_SECONDS)
    except UserError as error:
        reason = one_line(error).partition(". ")[0]
        raise UserError(f"--address {address}: no token to show ({reason}): set {TOKEN}") from error
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
