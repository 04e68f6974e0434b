"""Trials at once on the CPU: one thread each, as workers have it, beside torch's own choice and beside fixed cores.

python scripts/benchmarks/bench_threads.py [--at-once 2] [--repeats 7] [--seconds 6]

All three variants train the reference network at the same time budget, in turn, repeat by repeat, because other work on
the machine disturbs single repeats; medians and the ratios of single repeats are what counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

BATCH = 32
VARIANTS = ("ours", "naive", "pinned")


def train(variant: str, number: int, start: float, seconds: float) -> float:
    """Train one network for so many seconds; returns examples a second."""
    cores = sorted(os.sched_getaffinity(0))
    if variant == "pinned":
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    import torch
    from torch import nn

    from sepsearch.audio.spectrogram import BINS, FRAMES
    from sepsearch.models.families import make_config, make_network

    if variant != "naive":
        torch.set_num_threads(1)
    torch.manual_seed(number)
    network = make_network(make_config({}))
    optimizer = torch.optim.Adam(network.parameters())
    rows = torch.rand(BATCH, 1, FRAMES, BINS)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(network(rows), rows).backward()
        optimizer.step()

    step()
    time.sleep(max(0.0, start - time.time()))
    begin, batches = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        step()
        batches += 1
    return batches * BATCH / (time.perf_counter() - begin)


def together(variant: str, at_once: int, seconds: float) -> float:
    """Examples a second of so many processes altogether."""
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
        if variant != "naive":
            environment[name] = "1"  # Ray gives workers of one CPU as much
    start = str(time.time() + 8)  # after all have imported torch
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--worker", variant, str(number), start, str(seconds)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for number in range(at_once)
    ]
    return sum(float(json.loads(process.communicate()[0])) for process in processes)


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["--worker"]:
        variant, number, start, seconds = sys.argv[2:]
        print(json.dumps(train(variant, int(number), float(start), float(seconds))))
        return
    parser = argparse.ArgumentParser(prog="bench_threads.py")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for repeat in range(options.repeats):
        # Every repeat begins with another one, so that none is always first.
        for shift in range(len(VARIANTS)):
            variant = VARIANTS[(repeat + shift) % len(VARIANTS)]
            rates[variant].append(together(variant, options.at_once, options.seconds))
        print({variant: round(values[-1]) for variant, values in rates.items()}, file=sys.stderr, flush=True)
    print(f"{options.at_once} trials at once on {os.cpu_count()} cores, examples/s of all, {options.repeats} repeats")
    for variant, values in rates.items():
        ratios = [ours / other for ours, other in zip(rates["ours"], values, strict=True)]
        print(
            f"{variant}: {median(values):.0f} ({min(values):.0f} to {max(values):.0f});"
            f" ours / {variant}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
