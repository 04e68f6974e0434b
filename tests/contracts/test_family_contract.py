"""check_family passes families that are right, and names what to correct in those that are not."""

from typing import Any

import pytest
import torch
from plugin_fixtures import AXES, SMALL, SmallConfig, SmallNetwork
from torch import Tensor, nn

from sepsearch.models.families import FAMILIES, Family
from sepsearch.testing import check_family
from sepsearch.utils.plugins import FAMILIES as GROUP
from sepsearch.utils.plugins import find_plugin


def check(
    network: Any, config: type = SmallConfig, axes: dict[str, int] = AXES, onnx: bool = False, **params: Any
) -> None:
    check_family(Family(config, network, axes), params, onnx=onnx)


def test_a_family_that_is_right_passes_with_dropout_and_as_onnx():
    pytest.importorskip("onnxruntime")
    check_family(SMALL, {"dropout": 0.5})


def test_the_reference_family_passes():
    check_family(FAMILIES["report"], {"filters": 2}, onnx=False)


def test_the_check_leaves_nothing_registered():
    check_family(SMALL, onnx=False)
    assert find_plugin(GROUP, "small") is None


class WholeRows(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture)[:, :, :128] * torch.ones(128, 128)


class HalfAsLong(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture)[:, :, ::2]


class Negative(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture) - 0.1


class Normalised(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture) / mixture.mean(dim=(1, 2, 3), keepdim=True)


class BatchMean(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture * mixture.mean())


class NoTensor(SmallNetwork):
    def forward(self, mixture: Tensor) -> Any:
        return (super().forward(mixture), 1)


class Raising(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        raise KeyError("nothing")


class Seeded(SmallNetwork):
    def __init__(self, config: Any, outputs: int):
        torch.manual_seed(0)
        super().__init__(config, outputs)


class AnyWeights(SmallNetwork):
    def __init__(self, config: Any, outputs: int):
        super().__init__(config, outputs)
        with torch.random.fork_rng(devices=[]):
            torch.seed()
            nn.init.normal_(self.body.weight)


class Noisy(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture * torch.rand(()))


class NoisyTraining(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        if self.training:
            mixture = mixture * torch.rand((), generator=torch.Generator().manual_seed(torch.Generator().seed()))
        return super().forward(mixture)


class Detached(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return torch.sigmoid(self.head(self.body(mixture).detach())) * mixture


class Unused(SmallNetwork):
    def __init__(self, config: Any, outputs: int):
        super().__init__(config, outputs)
        self.spare = nn.Linear(1, 1)


class NoGradient(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture).detach()


class Softmax(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return torch.softmax(torch.cat([self.head(self.body(mixture)), mixture], 1), 1)[:, :-1] * mixture


class PlainTensor(SmallNetwork):
    def __init__(self, config: Any, outputs: int):
        super().__init__(config, outputs)
        self.scale = torch.full((1,), 0.5)

    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture * self.scale)


class Tied(SmallNetwork):
    def __init__(self, config: Any, outputs: int):
        super().__init__(config, outputs)
        self.again = nn.Conv2d(1, config.hidden, 3, padding=1)
        self.again.weight = self.body.weight

    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture) * torch.sigmoid(self.again(mixture).mean(1, keepdim=True))


class Uncopied(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        self.last = super().forward(mixture)
        return self.last

    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("only leaves can be copied")


class Branching(SmallNetwork):
    def forward(self, mixture: Tensor) -> Tensor:
        return super().forward(mixture) if float(mixture.mean()) > 1 else super().forward(2 * mixture)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (WholeRows, r"cannot compute rows \(2, 1, 64, 128\)"),
        (HalfAsLong, r"is \(2, 1, 64, 128\), expected \(2, 1, 128, 128\)"),
        (Negative, "goes down to .*, expected at or above 0"),
        (Normalised, "output of silence holds NaN"),
        (BatchMean, "depends on the other rows of its batch"),
        (NoTensor, "gives tuple, expected a tensor"),
        (Raising, "cannot compute rows .*KeyError"),
        (Seeded, "the same under two seeds: leave out torch.manual_seed"),
        (AnyWeights, "weights differ under one seed"),
        (Noisy, "differ in evaluation mode|depends on the other rows"),
        (NoisyTraining, "steps of training differ under one seed"),
        (Detached, "body.weight gets no gradient"),
        (Unused, "spare.weight gets no gradient"),
        (NoGradient, "the loss has no gradient"),
        (Softmax, "output 0 of 3 is not what a network with its weights alone gives"),
        (PlainTensor, "loaded from a file .*persistent buffers.* cannot compute"),
        (Tied, "cannot be saved as safetensors and loaded.*no two weights may share memory"),
        (Uncopied, "cannot be copied, as averaging does"),
    ],
)
def test_a_wrong_network_is_named_with_what_to_correct(network, message):
    with pytest.raises(AssertionError, match=message):
        check(network)


def test_a_network_that_onnx_cannot_hold_is_named():
    pytest.importorskip("onnxruntime")
    with pytest.raises(AssertionError, match=r"torch.onnx cannot export the network|differ by"):
        check(Branching, onnx=True)


def test_weights_that_output_axes_leaves_out_are_named():
    with pytest.raises(AssertionError, match=r"head.weight is .* which does not fit output_axes"):
        check(SmallNetwork, axes={})


def test_a_value_that_the_configuration_refuses_is_named():
    with pytest.raises(AssertionError, match="hidden"):
        check(SmallNetwork, hidden=0)


def test_the_name_of_a_builtin_is_refused():
    config = type("Config", (SmallConfig,), {"family": "unet"})
    with pytest.raises(AssertionError, match="built into sepsearch"):
        check(SmallNetwork, config=config)
