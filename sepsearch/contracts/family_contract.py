"""What a family of networks must do, so that its networks can be searched, resumed, saved, shared and exported."""

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepsearch.audio.spectrogram import BINS, FRAMES, FrontEnd
from sepsearch.models.families import FAMILIES, Config, Family, make_config, make_network, output_weights
from sepsearch.models.family_checks import check_family_object, check_networks
from sepsearch.models.onnx import check_onnx, write_onnx
from sepsearch.models.saved_model import ModelCard, load_model, save_model
from sepsearch.utils import plugins
from sepsearch.utils.errors import UserError, reason_of

OUTPUTS = 3  # of the network that several instruments share
BATCH = 2
HALF = FRAMES // 2  # frames of an example that a family of any size must take, too
SEEDS = 3  # of which one must give every parameter a gradient: an activation can be dead at one of them
TOLERANCE = 1e-5  # between the same computation in batches of different sizes


def check_family(family: Family, params: Mapping[str, Any] | None = None, onnx: bool = True) -> None:
    """Check a family of networks, as a test of one's own package calls it.

    Args:
        family: what the entry point names, or `register_family` gets.
        params: values of its parameters; their defaults where not given. Call it once for every kind of network.
        onnx: whether to export a network; needs the extra sepsearch[onnx].

    Raises:
        AssertionError: something must be corrected; the message says what.
    """
    name = str(getattr(getattr(family, "config", None), "family", ""))
    where = f"family {name}"
    try:
        check_family_object(family, name, where)
        with plugins.known_as(plugins.FAMILIES, name, family):
            assert FAMILIES.get(name, family) is family, f"{where}: built into sepsearch: choose another name"
            config = make_config({**(params or {}), "family": name})
            check_networks(family, config.network, where)
            _check_output(config, where)
            _check_randomness(config, where)
            _check_gradients(config, where)
            _check_outputs_alone(config, where)
            _check_saved(config, where, onnx)
    except UserError as error:
        raise AssertionError(str(error)) from error


def _mixture(frames: int = FRAMES, batch: int = BATCH) -> Tensor:
    """Random rows, (batch, 1, frame, band), at or above 0 as spectrograms are."""
    return 4 * torch.rand(batch, 1, frames, BINS, generator=torch.Generator().manual_seed(0)) ** 2


def _network(config: Config, outputs: int = 1, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_network(config, outputs).eval()


def _computed(network: nn.Module, mixture: Tensor, where: str, what: str) -> Tensor:
    """What a network makes of a mixture; an exception there is the family's."""
    try:
        with torch.inference_mode():
            made = network(mixture)
    except Exception as error:
        raise AssertionError(
            f"{where}: {what} cannot compute rows {tuple(mixture.shape)}: {reason_of(error)}"
        ) from error
    assert isinstance(made, Tensor), f"{where}: {what} gives {type(made).__name__}, expected a tensor"
    return made


def _check_output(config: Config, where: str) -> None:
    """Shape, finite and not negative, and of every row by itself."""
    lengths = [FRAMES] if config.network.fixed_size else [FRAMES, HALF]
    for outputs, frames in ((outputs, frames) for outputs in (1, OUTPUTS) for frames in lengths):
        network, mixture = _network(config, outputs), _mixture(frames)
        made = _computed(network, mixture, where, "its network")
        expected = (BATCH, outputs, frames, BINS)
        advice = "" if frames == FRAMES else ": set fixed_size = True if it takes whole rows only"
        assert made.shape == expected, (
            f"{where}: output of {tuple(mixture.shape)} is {tuple(made.shape)}, expected {expected}{advice}"
        )
        for kind, rows in (("music", mixture), ("silence", torch.zeros_like(mixture)), ("a loud row", 10 * mixture)):
            found = _computed(network, rows, where, "its network")
            assert bool(found.isfinite().all()), f"{where}: output of {kind} holds NaN or infinity: look for divisions"
            assert bool((found >= 0).all()), (
                f"{where}: output of {kind} goes down to {float(found.min()):.3g}, expected at or above 0:"
                " end with torch.relu, or a sigmoid times the mixture"
            )
        alone = _computed(network, mixture[:1], where, "its network")
        assert torch.allclose(alone, made[:1], atol=TOLERANCE), (
            f"{where}: a row's output depends on the other rows of its batch: compute every row by itself"
        )


def _check_randomness(config: Config, where: str) -> None:
    """All randomness is torch's, and none is left in evaluation."""
    one, same, other = (_network(config, 1, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one), (
        f"{where}: weights differ under one seed: initialise them from torch's random numbers alone"
    )
    assert any(not torch.equal(one[name], other[name]) for name in one), (
        f"{where}: weights are the same under two seeds: leave out torch.manual_seed, initialise at random"
    )
    network, mixture = _network(config), _mixture()
    first, second = (_computed(network, mixture, where, "its network") for _ in range(2))
    assert torch.equal(first, second), f"{where}: two outputs of one row differ in evaluation mode: draw nothing there"
    first, second = (_trained_once(config, 0, where)[1] for _ in range(2))
    assert torch.equal(first, second), (
        f"{where}: two first steps of training differ under one seed: draw from torch's random numbers alone"
    )


def _trained_once(config: Config, seed: int, where: str) -> tuple[nn.Module, Tensor]:
    """A network with gradients of one batch, and its output."""
    network, mixture = _network(config, OUTPUTS, seed).train(), _mixture()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = network(mixture)
        try:
            (made - mixture / 2).square().mean().backward()
        except RuntimeError as error:
            raise AssertionError(f"{where}: the loss has no gradient: {reason_of(error)}") from error
    return network, made.detach()


def _check_gradients(config: Config, where: str) -> None:
    moved: dict[str, bool] = {}
    for seed in range(SEEDS):
        for name, parameter in _trained_once(config, seed, where)[0].named_parameters():
            gradient = parameter.grad
            assert gradient is None or bool(gradient.isfinite().all()), f"{where}: gradient of {name} is not finite"
            moved[name] = moved.get(name, False) or (gradient is not None and bool(gradient.any()))
    assert moved, f"{where}: the network has no parameters: nothing could be trained"
    still = [name for name, moves in moved.items() if not moves]
    assert not still, f"{where}: {still[0]} gets no gradient: use it in forward, without detach or torch.no_grad"


def _check_outputs_alone(config: Config, where: str) -> None:
    """The weights of one output, taken from those of several, give what the shared network gives there."""
    shared, mixture = _network(config, OUTPUTS), _mixture()
    made = _computed(shared, mixture, where, "its network")
    for output in range(OUTPUTS):
        alone = _network(config)
        alone.load_state_dict(output_weights(config, shared.state_dict(), output))
        found = _computed(alone, mixture, where, "the network of one output")
        assert torch.allclose(found[:, 0], made[:, output], atol=TOLERANCE), (
            f"{where}: output {output} of {OUTPUTS} is not what a network with its weights alone gives: outputs share"
            " all but the weights in output_axes, and none depends on another"
        )


def _check_saved(config: Config, where: str, onnx: bool) -> None:
    """Weights come back from a file into a network built on torch's meta device, can be copied, and can be exported."""
    network, mixture = _network(config), _mixture()
    try:
        copy.deepcopy(network)
    except Exception as error:
        raise AssertionError(
            f"{where}: the network cannot be copied, as averaging does: {reason_of(error)}:"
            " keep tensors in nn.Parameter and register_buffer"
        ) from error
    card = ModelCard("vn", config, FrontEnd(), 10.0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            save_model(folder / "model", network, card)
            loaded, _ = load_model(folder / "model")
        except Exception as error:
            raise AssertionError(
                f"{where}: the network cannot be saved as safetensors and loaded: {reason_of(error)}:"
                " no two weights may share memory, and all are made in __init__"
            ) from error
        made = _computed(loaded, mixture, where, "a network loaded from a file (all tensors in persistent buffers?)")
        assert torch.equal(made, _computed(network, mixture, where, "its network")), (
            f"{where}: a network loaded from a file gives another output:"
            " keep in register_buffer what is no parameter, and do not draw it at random anew"
        )
        if onnx:
            _check_export(folder / "model.onnx", network, card, where)


def _check_export(path: Path, network: nn.Module, card: ModelCard, where: str) -> None:
    try:
        write_onnx(path, network, card)
        check_onnx(path, network, card)
    except UserError as error:
        raise AssertionError(f"{where}: {error}") from error
    except Exception as error:
        raise AssertionError(
            f"{where}: torch.onnx cannot export the network: {reason_of(error)}:"
            " use operations that it knows, and no branches on values"
        ) from error
