"""Ray: started on this machine alone or joined where it runs, quietly, with token authentication and the dashboard."""

import contextlib
import logging
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepsearch.distributed.cluster_connection import require_cluster
from sepsearch.distributed.ray_folder import ray_folder, short_tmpdir
from sepsearch.distributed.ray_internals import node_type_names, without_dashboard
from sepsearch.search.protocol import Workers
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.files import cache_folder
from sepsearch.utils.home import home_problem
from sepsearch.utils.output import OUTPUT, library_level

# What Ray and its workers find in their environment, unless the user has set it.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    # CSV, JSON and TensorBoard copies of every result: 3.5 s per 24 trials, and the journal has it all.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # A failed trial reports its reason instead of a metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Otherwise glibc hands every batch's tensors back to the system: a fifth of a CPU's time goes into page faults.
    # 32 MiB is the most it accepts.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    # Every job is a new thread, and threads get heaps of their own, 8 a core: each keeps as much as a configuration
    # needed at most, and `malloc_trim` returns the end of the first heap alone.
    "MALLOC_ARENA_MAX": "1",
    # oneDNN keeps as many compiled operators as this, 1,024 by default; those of earlier configurations lie between
    # freed blocks of the heap. The reference network has 40; what does not fit is compiled again for every batch.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    # Idle workers that Ray starts at once: trials, which have resources of their own, start others in their place.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # Ray starts workers at niceness 15: beside other work they got a quarter of a core each.
    "RAY_worker_niceness": "0",
    # Tune's own handler of Ctrl-C ends trials without telling searcher or scheduler; run.py has one that does.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
TOKEN_FILE = Path(".ray", "auth_token")  # in the home folder


@dataclass(frozen=True)
class Session:
    """A running Ray: its dashboard's address ("" for none), what it has, and whether it gets more nodes on demand.

    `job` is this driver's id in the cluster. `own`: it was started or joined here, and is left at the end.
    """

    dashboard: str
    cpus: float
    gpus: float
    grows: bool = False
    job: str = ""
    own: bool = True

    def workers(self, cpus_per_trial: float, gpus_per_trial: float | None, most: int | None) -> Workers:
        """How many trials fit at once; a quarter of a GPU each by default where there are GPUs.

        A cluster that grows on demand gets as many as asked for: Ray then starts the nodes that they need.

        Raises:
            UserError: not even one trial fits.
        """
        if gpus_per_trial is None:
            gpus_per_trial = 0.25 if self.gpus else 0.0
        fits = [math.floor(self.cpus / cpus_per_trial + 1e-9)]
        if gpus_per_trial:
            fits.append(math.floor(self.gpus / gpus_per_trial + 1e-9))
        if self.grows and most:
            return Workers(most, cpus_per_trial, gpus_per_trial)
        if min(fits) < 1:
            advice = "lower --cpus-per-trial or --gpus-per-trial"
            if self.grows:
                advice = "the cluster grows on demand: say with --workers how many trials at once"
            raise UserError(
                f"a trial needs {cpus_per_trial:g} CPUs and {gpus_per_trial:g} GPUs,"
                f" found {self.cpus:g} and {self.gpus:g}: {advice}"
            )
        return Workers(min([*fits, most] if most else fits), cpus_per_trial, gpus_per_trial)


def set_environment(address: str | None) -> None:
    """Set what Ray reads when it is imported, the token of a Ray that is started here included: call it before."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is None:
        # Ray listens on every interface unless it believes it runs on a desktop (ray_constants.py).
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        _provide_token()


@contextlib.contextmanager
def ray_session(address: str | None = None, cpus: int | None = None, dashboard: bool = True) -> Iterator[Session]:
    """Start Ray on loopback, or join the cluster at `address`; leave it at the end.

    A Ray that this process has started or joined before, as a notebook may, is used as it is, and not left.

    Args:
        address: of a cluster; None starts Ray here.
        cpus: of a Ray that is started here; those of the machine by default.
        dashboard: whether a Ray that is started here has its dashboard at once; `start_dashboard` starts it later.

    Raises:
        UserError: no cluster answers at the address, or Ray finds no folder for its sockets on this machine; or this
            process is in another cluster already, or in one of several nodes without an address.
    """
    set_environment(address)
    import ray

    if ray.is_initialized():
        yield _joined_session(address)
        return
    options: dict[str, Any]
    folder, bare = None, address is None and not dashboard
    if address is None:
        folder = ray_folder()
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard, "_temp_dir": str(folder)}
    else:
        options = {"address": require_cluster(address)}
    with (
        _without_signal_handlers(),
        short_tmpdir(folder) if folder else contextlib.nullcontext(),
        without_dashboard() if bare else contextlib.nullcontext(),
    ):
        try:
            context = ray.init(**options, **logging_options())
        except Exception as error:  # a bare one where its node did not start in time
            reason = str(error).strip() or type(error).__name__
            if folder:
                reason = reason.splitlines()[0]
                raise UserError(f"Ray did not start on this machine: {reason}: see its logs below {folder}") from error
            raise UserError(
                f"--address {address}: the cluster cannot be joined: {one_line(reason)[:300]}: the search's own machine"
                " must be one of its nodes (ray start --address=… there), with the same Python and Ray"
            ) from error
    try:
        yield _session("" if bare else str(context.dashboard_url or ""), address)
    finally:
        ray.shutdown()


def _session(url: str, address: str | None, own: bool = True) -> Session:
    import ray

    resources = ray.cluster_resources()
    # An autoscaler knows node types by their names in its configuration.
    grows = address is not None and any(name and not name.startswith("node_") for name in node_type_names())
    job = ray.get_runtime_context().get_job_id()
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    return Session(f"http://{url}" if url else "", cpus, gpus, grows, job, own)


def _joined_session(address: str | None) -> Session:
    """The session of a Ray that this process has joined already. Raises `UserError` as `ray_session`."""
    import ray

    joined = ray.get_runtime_context().gcs_address
    nodes = sum(node["Alive"] for node in ray.nodes())
    if address is None and nodes > 1:
        raise UserError(
            f"this process has joined a Ray cluster of {nodes} nodes ({joined}), expected that it is named: give"
            " --address auto, and with --storage a place that all nodes see; or call ray.shutdown() first"
        )
    if address not in (None, "auto", joined):
        raise UserError(
            f"--address {address}: this process has joined another Ray already ({joined}): call ray.shutdown() first"
        )
    return _session("", address, own=False)


def logging_options() -> dict[str, Any]:
    """Ray says nothing but errors; with --verbose all, and what workers print, unless JSON is on standard output."""
    return {"log_to_driver": OUTPUT.verbose and not OUTPUT.json, "logging_level": library_level(logging.ERROR)}


def _provide_token() -> None:
    """A token that only the user can read; left alone where one is set up already."""
    if os.environ.setdefault("RAY_AUTH_MODE", "token") != "token":
        return
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = _token_file()
    if path != Path(os.environ.get("HOME", ""), TOKEN_FILE):  # all that Ray looks at: it asks no password database
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))


def _token_file() -> Path:
    """Where Ray's own tools look for the token, or in the cache folder where nothing can be written in the home."""
    with contextlib.suppress(RuntimeError):
        path = Path.home() / TOKEN_FILE
        if os.path.exists(path) or not home_problem():
            return path
    return cache_folder() / "ray_auth_token"


@contextlib.contextmanager
def _without_signal_handlers() -> Iterator[None]:
    """Ray sets its own handler of SIGTERM when it starts; put back what was there."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
