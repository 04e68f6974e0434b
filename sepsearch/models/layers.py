"""What network families share: activations by name, and the fields of their configurations."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU}
Activation = Literal["relu", "elu", "gelu", "silu"]


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("expected an odd number")
    return kernel


OddKernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_odd)]
Width = Annotated[int, Field(ge=0, le=65536)]  # units of a hidden layer; 0 for none
