"""Networks side by side on the demo ensemble: mean ratio and SI-SDR gain on validation titles, processor seconds.

    python scripts/benchmarks/networks.py [NAME …] [--seeds 1 2] [--epochs 8] [--examples 128] [--instruments vn,vc]

Every configuration is trained on the same split, with the same number of examples of every instrument; the reference
network is always one of them. Ratios of different front ends are not comparable, SI-SDR gains are. Test titles are not
read.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from sepsearch.audio.spectrogram import PRESETS
from sepsearch.data.demo.rendering import demo_folder
from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import PreparedData, gather_data
from sepsearch.evaluation.test_scores import Candidate, TestTitles, audio_table
from sepsearch.models.families import make_config, make_network
from sepsearch.training.loop import EpochResult, fit
from sepsearch.training.members import Member

UNET = {"family": "unet", "heads": "all", "batch_size": 16, "learning_rate": 3e-3, "optimizer": "adamw", "l2": 1e-2}
UNET |= {"schedule": "cosine", "warmup": 0.05}
HALF = {"frames": 64, "offsets": "random", "batch_size": 8}
# Name → front end and configuration.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "reference": ("mel", {}),
    "reference, all": ("mel", {"heads": "all", "head": "mask", "learning_rate": 3e-3}),
    "unet": ("mel", UNET),
    "unet, averaged": ("mel", {**UNET, "averaging": 0.99}),
    "unet, half clips": ("mel", {**UNET, **HALF}),
    "unet, log15": ("log15", {**UNET, "harmonic_bins": 15}),
    "unet, log15, no harmonics": ("log15", UNET),
    "unet, log15, half clips": ("log15", {**UNET, **HALF, "harmonic_bins": 15}),
    "unet, log15, half clips, gate": ("log15", {**UNET, **HALF, "harmonic_bins": 15, "detector_width": 32}),
}


def gather(front_end: str, codes: tuple[str, ...] | None) -> PreparedData:
    """The demo ensemble with one front end, split with seed 0."""
    recordings, shards = prepare(demo_folder(), PRESETS[front_end], lambda *step: None)
    return gather_data(recordings, shards, codes, 0, (0.6, 0.2, 0.2), 48)


def train(prepared: PreparedData, params: dict[str, Any], seed: int, epochs: int, examples: int) -> EpochResult:
    """The last epoch; its learning rate has come to its end."""
    config = make_config(params)
    members = [Member(code, seed) for code in prepared.examples]
    batches = max(1, round(examples / config.training.batch_size))
    *_, last = fit(config, prepared.training_data(), members, epochs=epochs, batches_per_epoch=batches)
    return last


def gains(prepared: PreparedData, params: dict[str, Any], last: EpochResult) -> list[float]:
    """SI-SDR gain of every instrument on the validation titles, dB."""
    titles = TestTitles(prepared.recordings, prepared.shards, prepared.index, prepared.rows)
    candidates = []
    for member in last.members:
        network = make_network(make_config(params))
        network.load_state_dict(member.weights())
        code = member.member.instrument
        candidates.append(Candidate(code, network.eval(), prepared.examples[code]["validation"]))
    found = [audio_table(scores)["gain"]["si_sdr_db"] for scores in titles.listen(candidates)]
    return [gain for gain in found if gain is not None]


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of: {'; '.join(NETWORKS)}; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--examples", type=int, default=128, help="of every instrument per epoch")
    parser.add_argument("--instruments", help="such as vn,vc; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codes = tuple(arguments.instruments.split(",")) if arguments.instruments else None
    print("| network | front end | seed | ratio | SI-SDR gain, median / mean | CPU s |\n|---|---|---|---|---|---|")
    for name in dict.fromkeys(["reference", *(arguments.names or NETWORKS)]):
        front_end, params = NETWORKS[name]
        prepared = gather(front_end, codes)
        for seed in arguments.seeds:
            begin = time.process_time()
            last = train(prepared, params, seed, arguments.epochs, arguments.examples)
            seconds = time.process_time() - begin
            found = gains(prepared, params, last)
            decibels = f"{statistics.median(found):.1f} / {statistics.fmean(found):.1f} dB"
            print(f"| {name} | {front_end} | {seed} | {last.ratio:.3f} | {decibels} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
