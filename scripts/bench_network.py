"""The report's network with sepsearch's transposed convolution beside torch's own. Needs torch and numpy alone."""

import torch
from bench_table import Figure, Part, Settings, clock
from torch import Tensor, nn

from sepsearch.network import REPORT_FINAL, ReportNetwork

ROUNDS = 9
STEPS = {"cpu": 2, "cuda": 50}
HOW = """\
Milliseconds per example for forward and backward of the report's final network, and of its re-generator alone: with
`sepsearch.network.SubpixelConvTranspose2d`, and with `nn.ConvTranspose2d` of the same weights in its place. One CPU
thread and its CPU seconds; on a GPU wall time. Rounds of the two alternate, after one outside the clock. Informative:
there is no aim.
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
            prepared = ours.preparer(mixture)
        prepared.requires_grad_()  # as it is inside the network
        where = f"on {settings.device}, batch {batch}"
        repeats = settings.repeats or ROUNDS
        figures.append(compare(f"network {where}", ours, plain, mixture, repeats))
        figures.append(compare(f"re-generator {where}", ours.regenerator, plain.regenerator, prepared, repeats))
    return Part("network", HOW, figures, notes)


def compare(name: str, ours: nn.Module, plain: nn.Module, value: Tensor, rounds: int) -> Figure:
    """Both on the same input, in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for module in (ours, plain):
        milliseconds(module, value)
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            times[which].append(milliseconds((ours, plain)[which], value))
    return Figure(name, "ms/example", *times, "nn.ConvTranspose2d", False, digits=3)


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
    begin = clock(mixture.device.type)
    for _ in range(steps):
        network.zero_grad()
        network(mixture).square().mean().backward()
    if mixture.device.type == "cuda":
        torch.cuda.synchronize()
    return (clock(mixture.device.type) - begin) * 1000 / (steps * len(mixture))
