"""A model as an ONNX graph: power spectra of a mixture's clips in, the mask of the full transform out.

Everything that is neither a Fourier transform nor a cross-fade is in the graph: bands, compression, network, mask, and
from bands to frequencies. So nothing of it has to be written again where the graph is used, and nothing can drift.
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepsearch.audio.separation import row_mask
from sepsearch.audio.spectrogram import FRAMES, RATE, band_matrix, compress
from sepsearch.audio.stft import bin_weights
from sepsearch.models.saved_model import ModelCard
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.output import library_level

OPSET = 18  # ONNX 1.13, onnxruntime 1.14: old enough to be everywhere
INPUT, OUTPUTS = "power", ("mask", "mixture", "voice")
TOLERANCE = 1e-4  # of masks, 0 to 1, and of compressed amplitudes
NEEDED = ("onnx", "onnxscript", "onnxruntime")


class GraphModule(nn.Module):
    """What the graph computes.

    Args:
        network: (batch, 1, frame, band) → the same shape, compressed amplitudes.
        card: of the model.
    """

    def __init__(self, network: nn.Module, card: ModelCard):
        super().__init__()
        self.network, self.constant = network, card.constant
        self.bands: Tensor
        self.frequencies: Tensor
        self.register_buffer("bands", band_matrix(card.front_end))
        self.register_buffer("frequencies", bin_weights(card.front_end, RATE).T.contiguous())

    def forward(self, power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Power spectra (batch, frame 128, frequency of the front end), of windows of unit energy.

        Returns:
            mask (batch, frame 128, frequency of the full transform at 48 kHz), 0 to 1; and what the network read and
            gave, the rows of the mixture and of the voice, (batch, frame 128, band 128) each.
        """
        row = compress((power @ self.bands).clamp(min=0).sqrt(), self.constant)
        voice = self.network(row[:, None])[:, 0]
        return _filled(row_mask(voice, row), row) @ self.frequencies, row, voice


def _filled(mask: Tensor, row: Tensor) -> Tensor:
    """A band without any sound has no mask of its own: it takes the next frame's, else the last one's."""
    after, before = torch.cat([mask[:, 1:], mask[:, -1:]], 1), torch.cat([mask[:, :1], mask[:, :-1]], 1)
    sounds = torch.cat([row[:, 1:], row[:, -1:]], 1) > 0
    return torch.where(row > 0, mask, torch.where(sounds, after, before))


def write_onnx(path: Path, network: nn.Module, card: ModelCard) -> None:
    """Write a model's graph, with a batch of any size.

    Raises:
        UserError: a package that is needed is missing.
        OSError: it cannot be written.
    """
    onnx = require_onnx()
    module = GraphModule(network, card).eval()
    example = torch.rand(2, *_shape(module)) * 1e-2
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            custom_translation_table=_translations(),
        )
    assert program is not None
    graph = program.model_proto
    facts = {"instrument": card.instrument, "rate": RATE, "window": card.front_end.window, "hop": card.front_end.hop}
    onnx.helper.set_model_props(graph, {key: json.dumps(value).strip('"') for key, value in facts.items()})
    path.write_bytes(graph.SerializeToString())


def check_onnx(path: Path, network: nn.Module, card: ModelCard) -> float:
    """The largest difference between what onnxruntime and torch make of the same seeded spectra, loud and quiet.

    Raises:
        UserError: onnxruntime cannot use the graph, or differs by more than `TOLERANCE`.
    """
    module = GraphModule(network, card).eval()
    import onnxruntime

    generator = torch.Generator().manual_seed(0)
    # Clips of very different levels, with frames that are silent among them.
    levels = torch.tensor([1.0, 1e-3, 1e-6, 1e-9, 0.0])[:, None, None]
    power = torch.rand(len(levels), *_shape(module), generator=generator) ** 4 * levels
    power[:, ::7] = 0
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = session.run(list(OUTPUTS), {INPUT: power.numpy()})
    except Exception as error:  # its own kinds, which share no class
        raise UserError(f"{path.name}: onnxruntime cannot use it: {one_line(error)}: nothing was exported") from error
    with torch.inference_mode():
        expected = module(power)
    worst = max(float((torch.from_numpy(a) - b).abs().max()) for a, b in zip(found, expected, strict=True))
    if not worst <= TOLERANCE:  # NaN, too
        raise UserError(
            f"{path.name}: onnxruntime and torch differ by {worst:.2g}, expected at most {TOLERANCE:g}: "
            "nothing was exported: try the versions in constraints.txt"
        )
    return worst


def _shape(module: GraphModule) -> tuple[int, int]:
    return FRAMES, module.bands.shape[0]


def _translations() -> dict[Any, Any]:
    """log1p in operations of ONNX that stay exact for small numbers, where log(1 + x) loses all digits."""
    from onnxscript import opset18 as op

    def log1p(x: Any) -> Any:
        return op.Mul(op.Constant(value_float=2.0), op.Atanh(op.Div(x, op.Add(x, op.Constant(value_float=2.0)))))

    return {torch.ops.aten.log1p.default: log1p}


def require_onnx() -> Any:
    """The module onnx; raises `UserError` unless all that an export needs is installed."""
    import importlib

    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"export needs {', '.join(NEEDED)}, found no {name} ({one_line(error)}): pip install 'sepsearch[onnx]'"
            ) from error
    import onnx

    return onnx


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(library_level(logging.ERROR))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
