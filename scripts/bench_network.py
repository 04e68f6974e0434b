"""The report's network with sepsearch's transposed convolution beside torch's own. Needs torch and numpy alone."""

import time

import torch
from bench_table import Figure, Part, Settings
from torch import Tensor, nn

from sepsearch.network import REPORT_FINAL, ReportNetwork

ROUNDS = 9
STEPS = {"cpu": 2, "cuda": 50}
HOW = """\
Milliseconds per example for forward and backward of the report's final network, one CPU thread: with
`sepsearch.network.SubpixelConvTranspose2d`, and with `nn.ConvTranspose2d` of the same weights in its place. Rounds of
the two alternate, after one outside the clock. Informative: there is no aim.
"""


def measure(settings: Settings) -> Part:
    """All batch sizes that were asked for."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = ReportNetwork(REPORT_FINAL).to(settings.device)
    plain = with_plain_convolution(ours).to(settings.device)
    figures, notes = [], []
    for batch in settings.batches:
        mixture = torch.rand(batch, 1, 128, 128, device=settings.device)
        with torch.no_grad():
            notes.append(f"batch {batch}: outputs differ by at most {(ours(mixture) - plain(mixture)).abs().max():.1e}")
        times: tuple[list[float], list[float]] = ([], [])
        for network in (ours, plain):
            milliseconds(network, mixture)
        for turn in range(settings.repeats or ROUNDS):
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                times[which].append(milliseconds((ours, plain)[which], mixture))
        name = f"network on {settings.device}, batch {batch}"
        figures.append(Figure(name, "ms/example", *times, "nn.ConvTranspose2d", False, digits=3))
    return Part("network", HOW, figures, notes)


def with_plain_convolution(network: ReportNetwork) -> ReportNetwork:
    """A copy with the same weights whose re-generator is torch's own."""
    copy = ReportNetwork(REPORT_FINAL)
    own = network.regenerator
    copy.regenerator = nn.ConvTranspose2d(own.in_channels, 1, own.kernel_size, stride=2, padding=own.padding)
    copy.load_state_dict(network.state_dict())
    return copy


def milliseconds(network: nn.Module, mixture: Tensor) -> float:
    """Per example, forward and backward."""
    steps = STEPS[mixture.device.type]
    begin = time.perf_counter()
    for _ in range(steps):
        network.zero_grad()
        network(mixture).square().mean().backward()
    if mixture.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) * 1000 / (steps * len(mixture))
