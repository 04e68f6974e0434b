"""Metrics that a worker reports itself: its memory on the host and on its GPUs, as a gauge of Ray's."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

AGAIN_SECONDS = 2.0  # between two settings of a gauge: well below Ray's interval, however busy the machine
MEMORY = "sepsearch_memory_bytes"
MEMORY_TEXT = (
    "Memory of a worker while it trains. device cpu: resident, without what it shares with others, such as the"
    " recordings in the object store; devices gpu0, gpu1 and so on: what torch holds there, without CUDA itself."
)
MEMORY_LABELS = ("search", "worker", "device")


@functools.cache
def make_gauge(name: str, text: str, labels: tuple[str, ...]) -> Any:
    """Ray's gauge of this name in this process; `text` is its description."""
    from ray.util.metrics import Gauge

    return Gauge(name, text, tag_keys=labels)


@contextlib.contextmanager
def reported_memory(search: str, gpu: bool) -> Iterator[None]:
    """Report this worker's memory until the block ends: an epoch may be longer than Ray remembers a gauge."""
    over, gauge = threading.Event(), make_gauge(MEMORY, MEMORY_TEXT, MEMORY_LABELS)

    def report() -> None:
        while not over.is_set():
            for device, amount in memory_bytes(gpu).items():
                gauge.set(amount, {"search": search, "worker": str(os.getpid()), "device": device})
            over.wait(AGAIN_SECONDS)

    threading.Thread(target=report, name="memory gauge", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def memory_bytes(gpu: bool) -> dict[str, int]:
    """Memory of this process by device, in bytes: "cpu" (resident, not shared), "gpu0", …"""
    import psutil

    memory = psutil.Process().memory_info()
    found = {"cpu": memory.rss - getattr(memory, "shared", 0)}
    if gpu:
        import ray
        import torch

        # Ray hides the other devices from a worker, which sees its own as number 0.
        for number, id in enumerate(ray.get_runtime_context().get_accelerator_ids()["GPU"]):
            found[f"gpu{id}"] = torch.cuda.memory_reserved(number)
    return found
