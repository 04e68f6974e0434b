"""Ray's start and that of the search's workers, in a thread beside the preparation of the data."""

import contextlib
import shutil
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from sepsearch.runs.options import AUTO
from sepsearch.runs.run_folder import JOURNAL, RAY_FOLDER
from sepsearch.runs.start import Begin
from sepsearch.utils.errors import UserError, one_line

if TYPE_CHECKING:
    from sepsearch.distributed.session import Session
    from sepsearch.distributed.worker_pool import WorkerPool
    from sepsearch.search.protocol import Workers


class EarlyStart:
    """Ray and the workers of a run: on this machine alone at once, in a cluster when they are asked for.

    A cluster's nodes are others' as long as the data is prepared, which can take hours.

    Args:
        begin: the run; one that needs no training starts nothing.
    """

    def __init__(self, begin: Begin):
        self._begin = begin
        self._stack = contextlib.ExitStack()
        self._found: tuple[Session, Workers] | None = None
        self._pool: WorkerPool | None = None
        self._error: BaseException | None = None
        self._ready, self._over = threading.Event(), threading.Event()
        self._turn = threading.Condition()  # Ray is not shut down while its dashboard starts
        self._say: Callable[[str], None] | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._stay, name="ray's start", daemon=True)
        if not begin.past.scored and begin.options["address"] is None:
            self._thread.start()

    def _stay(self) -> None:
        """Start Ray and its dashboard; the system kills their processes when the thread that started them ends."""
        self._start()
        self._ready.set()
        with self._turn:
            self._turn.wait_for(lambda: self._say is not None or self._closing)
            if self._say is not None and not self._closing:
                self._start_dashboard(self._say)
        self._over.wait()

    def _start_dashboard(self, say: Callable[[str], None]) -> None:
        from sepsearch.distributed.ray_internals import start_dashboard
        from sepsearch.monitoring.messages import dashboard_line

        if self._found and not self._found[0].own:
            return
        try:
            say(dashboard_line(f"http://{start_dashboard()}", self._found[0].job if self._found else ""))
        except Exception as error:
            say(f"warning: Ray's dashboard did not start: {one_line(error)}; the search goes on without it")

    def show_dashboard(self, say: Callable[[str], None]) -> None:
        """Start the dashboard of a Ray that was started here, and say its address; returns at once.

        It is not started with Ray, because the first epoch would be 3 s later.
        """
        if self._thread.ident and self._say is None:
            with self._turn:
                self._say = say
                self._turn.notify_all()

    def _start(self) -> None:
        from sepsearch.distributed.session import ray_session, set_environment

        options = self._begin.options
        try:
            set_environment(options["address"])
            threading.Thread(target=_import_tune, name="imports", daemon=True).start()
            session = self._stack.enter_context(ray_session(options["address"], dashboard=False))
            automatic = options["gpus_per_trial"] == AUTO
            # A whole GPU each until it is known how many trials share one.
            gpus = float(session.gpus > 0) if automatic else options["gpus_per_trial"]
            workers = session.workers(options["cpus_per_trial"], gpus, options["workers"])
            self._found = session, workers
            if not (automatic and workers.gpus):
                self.pool(workers)
        except BaseException as error:
            self._error = error

    def result(self) -> "tuple[Session, Workers]":
        """The session, and how many trials run at once with a whole GPU each where their share is not known yet.

        Raises:
            UserError: Ray does not start, or not even one trial fits.
        """
        if not self._thread.ident:
            self._start()
        else:
            self._ready.wait()
        if self._error:
            raise self._error
        assert self._found
        return self._found

    def pool(self, workers: "Workers") -> "WorkerPool":
        """The workers of all stages, started the first time."""
        from sepsearch.distributed.worker_pool import WorkerPool

        if self._pool is None:
            grows = self._found is not None and self._found[0].grows  # where nodes take minutes to come
            self._pool = WorkerPool(workers, self._begin.folder / RAY_FOLDER, 0 if grows else workers.concurrent)
            self._stack.callback(self._pool.close)
        return self._pool

    def close(self) -> None:
        """End the workers and Ray; a run that has not begun leaves no file of theirs."""
        if self._thread.ident:
            self._ready.wait()
            with self._turn:
                self._closing = True
                self._turn.notify_all()
        self._stack.close()
        self._over.set()
        if not self._begin.journal and not self._begun():
            shutil.rmtree(self._begin.folder / RAY_FOLDER, ignore_errors=True)

    def _begun(self) -> bool:
        return (self._begin.folder / JOURNAL).exists()


def _import_tune() -> None:
    """Import Ray Tune, most of a second, while Ray's own processes start."""
    with contextlib.suppress(Exception):  # it comes again where the pool is made
        import sepsearch.distributed.worker_pool  # noqa: F401


def look_at_cluster(begin: Begin) -> None:
    """Check that the cluster answers, has room for a trial, and that its nodes see the run's storage.

    Preflight repeats it after the shards are made, which can take long.

    Raises:
        UserError: something would stop the run.
    """
    from sepsearch.distributed.nodes import check_nodes
    from sepsearch.distributed.session import ray_session

    options = begin.options
    automatic = options["gpus_per_trial"] == AUTO
    gpus = None if automatic else options["gpus_per_trial"]
    with ray_session(options["address"]) as session:
        if automatic and session.grows and not session.gpus:
            raise UserError(
                "--gpus-per-trial auto: it is measured on a GPU, and the cluster, which grows on demand, has none yet:"
                " give a number, such as 0.25"
            )
        check_nodes(begin.storage, session.workers(options["cpus_per_trial"], gpus, options["workers"]))
